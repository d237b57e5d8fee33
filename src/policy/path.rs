//! The canonical path: parsed once, matched and forwarded in the same form.

/// A request path in canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutePath {
    canonical: String,
}

/// Why a request target has no canonical path. The request is answered 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Not an absolute path.
    #[error("the request target is not an absolute path")]
    NotAbsolute,
}

impl RoutePath {
    /// Parses the path of a request target, without its query.
    ///
    /// # Errors
    /// See [`PathError`].
    pub fn parse(path: &str) -> Result<Self, PathError> {
        if path.starts_with('/') {
            Ok(Self { canonical: path.to_owned() })
        } else {
            Err(PathError::NotAbsolute)
        }
    }

    /// The path as it is matched and forwarded.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.canonical
    }
}
