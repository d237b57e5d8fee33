//! Answers that take their time: an event stream, a large download and a slow page.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{StatusCode, Uri};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;

use super::query;

const MIB: u64 = 1024 * 1024;
const DOWNLOAD_MIB: u64 = 64;
const DOWNLOAD_MIB_MAX: u64 = 1024;
/// How much of the download is made at a time; it divides a MiB.
const CHUNK_BYTES: u64 = 64 * 1024;
/// Each record of the download is its own offset: 15 hexadecimal digits and a line feed.
const RECORD_BYTES: usize = 16;

const EVENTS: u64 = 10;
const EVENTS_MAX: u64 = 120;

const SLOW_MS: u64 = 1_000;
const SLOW_MS_MAX: u64 = 30_000;

pub(super) fn routes(event_interval: Duration) -> Router {
    Router::new()
        .route("/events", get(async move |uri| events(&uri, event_interval)))
        .route("/download/large.bin", get(download))
        .route("/slow", get(slow))
}

/// Sends the first event at once and each further one after `interval`.
fn events(uri: &Uri, interval: Duration) -> Response {
    let count = match query::number(uri, "count", EVENTS, 1, EVENTS_MAX) {
        Ok(count) => count,
        Err(error) => return bad_request(error),
    };
    let ticks = stream::unfold(1, move |number| async move {
        if number > count {
            return None;
        }
        if number > 1 {
            tokio::time::sleep(interval).await;
        }
        let data = format!("{{\"number\":{number},\"of\":{count}}}");
        let event = Event::default().id(number.to_string()).event("tick").data(data);
        Some((Ok::<_, Infallible>(event), number + 1))
    });
    Sse::new(ticks).into_response()
}

async fn download(uri: Uri) -> Response {
    let length = match query::number(&uri, "mib", DOWNLOAD_MIB, 1, DOWNLOAD_MIB_MAX) {
        Ok(mib) => mib * MIB,
        Err(error) => return bad_request(error),
    };
    let chunks = stream::unfold(0, move |offset| async move {
        (offset < length).then(|| (Ok::<_, Infallible>(chunk(offset)), offset + CHUNK_BYTES))
    });
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_DISPOSITION, "attachment; filename=\"large.bin\"".to_owned()),
        (CONTENT_LENGTH, length.to_string()),
    ];
    (headers, Body::from_stream(chunks)).into_response()
}

/// The part of the download that starts at `offset`; a truncated or shuffled copy shows where it went wrong.
fn chunk(offset: u64) -> Bytes {
    let digit = |value: u8| b"0123456789abcdef"[usize::from(value & 15)];
    let mut bytes = Vec::new();
    for record in (offset..offset + CHUNK_BYTES).step_by(RECORD_BYTES) {
        let digits = record.to_be_bytes().into_iter().flat_map(|byte| [digit(byte >> 4), digit(byte)]);
        // The first of the sixteen digits is always zero; the line feed takes its room.
        bytes.extend(digits.skip(1));
        bytes.push(b'\n');
    }
    bytes.into()
}

async fn slow(uri: Uri) -> Response {
    match query::number(&uri, "ms", SLOW_MS, 0, SLOW_MS_MAX) {
        Ok(ms) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            format!("This answer took {ms} ms.\n").into_response()
        }
        Err(error) => bad_request(error),
    }
}

fn bad_request(error: String) -> Response {
    (StatusCode::BAD_REQUEST, error + "\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::super::probe::{get, request};

    #[tokio::test]
    async fn the_event_stream_sends_as_many_events_as_asked_for_and_ends() {
        let answer = get("/events?count=3").await;
        assert_eq!(answer.header("content-type"), Some("text/event-stream"));
        let text = answer.text();
        let events: Vec<&str> = text.trim_end().split("\n\n").collect();
        assert_eq!(events.len(), 3, "{text}");
        assert_eq!(events[2], "id: 3\nevent: tick\ndata: {\"number\":3,\"of\":3}");
    }

    #[tokio::test]
    async fn the_download_has_its_length_and_every_record_is_its_own_offset() {
        let answer = get("/download/large.bin?mib=2").await;
        assert_eq!(answer.header("content-length"), Some("2097152"));
        assert_eq!(answer.body.len(), 2 << 20);
        for (index, record) in answer.body.chunks(16).enumerate() {
            assert_eq!(record, format!("{:015x}\n", index * 16).as_bytes());
        }
    }

    #[tokio::test]
    async fn head_tells_the_length_of_the_download_without_sending_it() {
        let default = request("HEAD", "/download/large.bin", &[], b"").await;
        assert_eq!(default.status, 200);
        assert_eq!(default.header("content-length"), Some("67108864"));
        assert!(default.body.is_empty());
        let largest = request("HEAD", "/download/large.bin?mib=1024", &[], b"").await;
        assert_eq!(largest.header("content-length"), Some("1073741824"));
    }

    #[tokio::test]
    async fn a_slow_answer_waits_as_long_as_asked() {
        let started = std::time::Instant::now();
        assert_eq!(get("/slow?ms=30").await.text(), "This answer took 30 ms.\n");
        assert!(started.elapsed().as_millis() >= 30);
    }

    #[tokio::test]
    async fn numbers_outside_their_bounds_get_400_with_the_bounds() {
        for (path, bounds) in [
            ("/slow?ms=30001", "ms must be a whole number from 0 to 30000\n"),
            ("/slow?ms=-1", "ms must be a whole number from 0 to 30000\n"),
            ("/events?count=0", "count must be a whole number from 1 to 120\n"),
            ("/events?count=", "count must be a whole number from 1 to 120\n"),
            ("/download/large.bin?mib=1025", "mib must be a whole number from 1 to 1024\n"),
            ("/download/large.bin?mib=1e3", "mib must be a whole number from 1 to 1024\n"),
            ("/download/large.bin?mib=18446744073709551617", "mib must be a whole number from 1 to 1024\n"),
        ] {
            let answer = get(path).await;
            assert_eq!(answer.status, 400, "{path}");
            assert_eq!(answer.text(), bounds, "{path}");
        }
    }
}
