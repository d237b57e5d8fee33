//! How a request to a facilitator proves who it is from.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use reqwest::{Method, Url};

use crate::clock::UnixSeconds;
use crate::facilitator::cdp::CdpKey;
use crate::facilitator::settings::Auth;

/// Headers that belong to the request itself.
const NOT_FOR_AUTH: &[HeaderName] =
    &[CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TE, TRANSFER_ENCODING, UPGRADE];

/// [`Auth`], checked and ready for use. What it holds prints as `***` or `Sensitive`.
#[derive(Debug)]
pub(super) enum Authorizer {
    None,
    Fixed(HeaderName, HeaderValue),
    Cdp { key_id: String, key: CdpKey },
}

impl Authorizer {
    /// Checks the settings.
    ///
    /// # Errors
    /// What cannot be sent as a header or is no key; secrets are not quoted.
    pub(super) fn new(auth: &Auth) -> Result<Self, String> {
        match auth {
            Auth::None => Ok(Self::None),
            Auth::Bearer(token) => {
                let value = secret_value(&format!("Bearer {}", token.expose()))?;
                Ok(Self::Fixed(AUTHORIZATION, value))
            }
            Auth::Header { name, value } => {
                let name = HeaderName::try_from(name.as_str())
                    .map_err(|_| format!("{name:?} is no name of a header"))?;
                if NOT_FOR_AUTH.contains(&name) {
                    return Err(format!("the header {name} is not free for authentication"));
                }
                Ok(Self::Fixed(name, secret_value(value.expose())?))
            }
            Auth::Cdp { key_id, key } => {
                if key_id.trim().is_empty() {
                    return Err("the CDP key id is empty".into());
                }
                Ok(Self::Cdp { key_id: key_id.clone(), key: CdpKey::parse(key.expose())? })
            }
        }
    }

    /// The header for one request.
    ///
    /// # Errors
    /// When no token can be made: nothing may be sent then.
    pub(super) fn header(
        &self,
        method: &Method,
        url: &Url,
        now: UnixSeconds,
    ) -> Result<Option<(HeaderName, HeaderValue)>, String> {
        match self {
            Self::None => Ok(None),
            Self::Fixed(name, value) => Ok(Some((name.clone(), value.clone()))),
            Self::Cdp { key_id, key } => {
                let mut nonce = [0; 16];
                getrandom::fill(&mut nonce).map_err(|error| format!("no random numbers: {error}"))?;
                let token = key.token(key_id, method.as_str(), url, now, nonce)?;
                Ok(Some((AUTHORIZATION, secret_value(&format!("Bearer {token}"))?)))
            }
        }
    }

    /// Whether there is anything to keep secret.
    pub(super) const fn is_secret(&self) -> bool {
        !matches!(self, Self::None)
    }
}

fn secret_value(text: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text.trim())
        .map_err(|_| "the facilitator's secret has characters that no header may have")?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    const NOW: UnixSeconds = UnixSeconds(1_750_000_000);

    fn header(auth: &Auth) -> Option<(HeaderName, HeaderValue)> {
        let url = Url::parse("https://facilitator.example/verify").unwrap();
        Authorizer::new(auth).unwrap().header(&Method::POST, &url, NOW).unwrap()
    }

    #[test]
    fn each_kind_of_auth_sends_its_own_header() {
        assert_eq!(header(&Auth::None), None);
        let (name, value) = header(&Auth::Bearer(Secret::new("hunter2\n".into()))).unwrap();
        assert_eq!((name, value.to_str().unwrap()), (AUTHORIZATION, "Bearer hunter2"));
        let named = Auth::Header { name: "x-api-key".into(), value: Secret::new("hunter2".into()) };
        let (name, value) = header(&named).unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-api-key", "hunter2"));
    }

    #[test]
    fn what_cannot_be_sent_is_refused_without_being_quoted() {
        let bearer = Auth::Bearer(Secret::new("hunter2\r\nX-Other: 1".into()));
        let named = |name: &str| Auth::Header { name: name.into(), value: Secret::new("hunter2".into()) };
        let cdp = |id: &str| Auth::Cdp { key_id: id.into(), key: Secret::new("hunter2".into()) };
        for auth in [bearer, named("x api"), named("host"), named("content-length"), cdp("id"), cdp(" ")] {
            let error = Authorizer::new(&auth).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let printed = format!(
            "{:?} {:?}",
            Authorizer::new(&Auth::Bearer(Secret::new("hunter2".into()))).unwrap(),
            header(&Auth::Bearer(Secret::new("hunter2".into())))
        );
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}
