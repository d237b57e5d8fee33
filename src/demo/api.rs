//! The JSON API: invented weather, and an echo that shows what the site receives.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::query;

/// The largest body that `/api/echo` sends back; a larger one gets 413.
const ECHO_BODY_BYTES_MAX: usize = 1024 * 1024;

/// The longest city name, in characters.
const CITY_CHARACTERS_MAX: usize = 64;

const COLD_SKIES: [&str; 5] = ["clear", "overcast", "light snow", "snow", "freezing fog"];
const WARM_SKIES: [&str; 6] = ["clear", "partly cloudy", "overcast", "showers", "rain", "thunderstorms"];

pub(super) fn routes() -> Router {
    Router::new()
        .route("/api", get(index))
        .route("/api/", get(index))
        .route("/api/weather", get(weather))
        .route("/api/echo", any(echo).layer(DefaultBodyLimit::max(ECHO_BODY_BYTES_MAX)))
}

async fn index() -> Response {
    let endpoints = json!({
        "endpoints": [
            { "method": "GET", "path": "/api/weather?city=Lisbon", "answer": "invented weather, the same every time" },
            { "method": "POST", "path": "/api/echo", "answer": "the request as this site received it" },
        ],
    });
    answer(StatusCode::OK, &endpoints)
}

async fn weather(uri: Uri) -> Response {
    let city = query::parameter(&uri, "city").unwrap_or_default();
    let city = city.trim();
    let length = city.chars().count();
    if length == 0 || length > CITY_CHARACTERS_MAX || city.chars().any(char::is_control) {
        let error = format!("city must be a name of 1 to {CITY_CHARACTERS_MAX} characters");
        return bad_request(&error, "/api/weather?city=Lisbon");
    }
    answer(StatusCode::OK, &weather_of(city))
}

/// Weather made from the city's name alone, so that a paid answer can be compared with a second one.
fn weather_of(city: &str) -> Value {
    let seed = fnv1a(city.to_lowercase().as_bytes());
    let celsius = i32::from(pick(seed, 0, 40)) - 6;
    let sky = if celsius < 2 {
        COLD_SKIES[usize::from(pick(seed, 1, 5))]
    } else {
        WARM_SKIES[usize::from(pick(seed, 1, 6))]
    };
    json!({
        "city": city,
        "celsius": celsius,
        "sky": sky,
        "humidity_percent": 30 + pick(seed, 2, 66),
        "wind_kmh": pick(seed, 3, 45),
        "source": "invented from the city's name",
    })
}

/// A number below `bound`, made from the byte `slot` of `seed`; `bound` is at most 256.
fn pick(seed: u64, slot: usize, bound: u16) -> u16 {
    u16::from(seed.to_be_bytes()[slot]) * bound / 256
}

/// FNV-1a with 64 bits: spreads a short name over all bits and is the same on every machine.
fn fnv1a(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // The last byte of the name has hardly reached the upper bits yet; one more round of mixing brings it there.
    (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

async fn echo(method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let (body_key, body_value) = match std::str::from_utf8(&body) {
        Ok(text) => ("body", text.to_owned()),
        Err(_) => ("body_base64", STANDARD.encode(&body)),
    };
    let seen = json!({
        "method": method.as_str(),
        "path": uri.path(),
        "query": uri.query(),
        "headers": headers_as_json(&headers),
        "body_bytes": body.len(),
        body_key: body_value,
    });
    ([(CACHE_CONTROL, "no-store")], answer(StatusCode::OK, &seen)).into_response()
}

/// Each header's value, or the list of its values when it came more than once.
fn headers_as_json(headers: &HeaderMap) -> Map<String, Value> {
    headers
        .keys()
        .map(|name| {
            let mut values: Vec<Value> = headers
                .get_all(name)
                .iter()
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned().into())
                .collect();
            let value = if values.len() == 1 { values.remove(0) } else { Value::Array(values) };
            (name.to_string(), value)
        })
        .collect()
}

fn bad_request(error: &str, example: &str) -> Response {
    answer(StatusCode::BAD_REQUEST, &json!({ "error": error, "try": example }))
}

/// JSON laid out for people, who are the ones to read it here.
fn answer(status: StatusCode, value: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], format!("{value:#}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::probe::{get, request};
    use super::{ECHO_BODY_BYTES_MAX, weather_of};

    #[tokio::test]
    async fn the_weather_of_a_city_is_the_same_every_time_and_ignores_letter_case() {
        let first: Value = get("/api/weather?city=Lisbon").await.json();
        let second: Value = get("/api/weather?lang=en&city=LISBON").await.json();
        assert_eq!(first["celsius"], second["celsius"]);
        assert_eq!(first["sky"], second["sky"]);
        assert_eq!(first["city"], "Lisbon");
        assert_ne!(first["wind_kmh"], get("/api/weather?city=Oslo").await.json()["wind_kmh"]);
    }

    #[tokio::test]
    async fn a_city_may_have_spaces_and_letters_beyond_ascii() {
        assert_eq!(get("/api/weather?city=S%C3%A3o+Paulo").await.json()["city"], "São Paulo");
        assert_eq!(get("/api/weather?city=100%").await.json()["city"], "100%");
    }

    #[test]
    fn the_weather_stays_within_what_is_possible() {
        for number in 0..2000 {
            let weather = weather_of(&format!("city {number}"));
            let celsius = weather["celsius"].as_i64().expect("a whole number");
            assert!((-6..=33).contains(&celsius), "{weather}");
            assert!(
                (30..=95).contains(&weather["humidity_percent"].as_i64().expect("a whole number")),
                "{weather}"
            );
            let snows = weather["sky"].as_str().expect("a string").contains("snow");
            assert!(!snows || celsius < 2, "{weather}");
        }
    }

    #[tokio::test]
    async fn a_missing_or_unusable_city_gets_400_with_an_example() {
        let long = format!("/api/weather?city={}", "x".repeat(65));
        for path in ["/api/weather", "/api/weather?city=", "/api/weather?city=%0A%00x%07", &long] {
            let answer = get(path).await;
            assert_eq!(answer.status, 400, "{path}");
            assert_eq!(answer.json()["try"], "/api/weather?city=Lisbon");
        }
    }

    #[tokio::test]
    async fn echo_returns_the_body_and_every_header_it_saw() {
        let headers = [("X-One", "1"), ("X-Two", "a"), ("X-Two", "b")];
        let answer = request("POST", "/api/echo?q=1", &headers, "grüße".as_bytes()).await;
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let seen = answer.json();
        assert_eq!(seen["method"], "POST");
        assert_eq!(seen["path"], "/api/echo");
        assert_eq!(seen["query"], "q=1");
        assert_eq!(seen["body"], "grüße");
        assert_eq!(seen["headers"]["x-one"], "1");
        assert_eq!(seen["headers"]["x-two"], json!(["a", "b"]));
    }

    #[tokio::test]
    async fn echo_returns_a_body_that_is_no_text_as_base64_and_refuses_one_that_is_too_large() {
        let seen = request("PUT", "/api/echo", &[], &[0xff, 0x00]).await.json();
        assert_eq!(seen["body_base64"], "/wA=");
        assert_eq!(seen["body_bytes"], 2);
        let too_large = vec![b'x'; ECHO_BODY_BYTES_MAX + 1];
        assert_eq!(request("POST", "/api/echo", &[], &too_large).await.status, 413);
    }

    #[tokio::test]
    async fn the_api_lists_its_endpoints() {
        let endpoints = get("/api").await.json()["endpoints"].clone();
        assert_eq!(endpoints.as_array().map(Vec::len), Some(2));
    }
}
