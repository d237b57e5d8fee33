//! The HTML pages and their one stylesheet.

use axum::extract::Path;
use axum::http::header::{CONTENT_TYPE, HOST, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};

const LAYOUT: &str = include_str!("pages/layout.html");
const STYLESHEET: &str = include_str!("pages/style.css");
const FRONT: &str = include_str!("pages/front.html");

/// The address that the pages are written for: the gateway's default `listen`.
const WRITTEN_FOR: &str = "http://127.0.0.1:8402";

struct Article {
    name: &'static str,
    title: &'static str,
    summary: &'static str,
    body: &'static str,
}

static ARTICLES: [Article; 4] = [
    Article {
        name: "http-402",
        title: "The status code that waited",
        summary: "HTTP has had a number for “pay first” since its earliest days. Why it stayed empty, and what changed.",
        body: include_str!("pages/http-402.html"),
    },
    Article {
        name: "x402",
        title: "x402 in five minutes",
        summary: "Two requests, three headers and one signature: a whole purchase over HTTP, step by step.",
        body: include_str!("pages/x402.html"),
    },
    Article {
        name: "reverse-proxy",
        title: "A toll gate in front of a site",
        summary: "What a reverse proxy sees, what it must decide, and which mistakes let visitors slip past it.",
        body: include_str!("pages/reverse-proxy.html"),
    },
    Article {
        name: "signed-payments",
        title: "What a signed payment promises",
        summary: "An EIP-3009 authorisation, field by field: what the buyer risks, and what the seller can rely on.",
        body: include_str!("pages/signed-payments.html"),
    },
];

pub(super) async fn front(headers: HeaderMap) -> Html<String> {
    let list: String = ARTICLES.iter().map(list_entry).collect();
    let body = FRONT.replace("<!--articles-->", &list).replace(WRITTEN_FOR, &public_origin(&headers));
    Html(page("A site behind tollgate", &body))
}

pub(super) async fn stylesheet() -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/css; charset=utf-8")], STYLESHEET)
}

/// The list of articles is on the front page, which is free to read.
pub(super) async fn article_list() -> impl IntoResponse {
    (StatusCode::FOUND, [(LOCATION, "/#articles")])
}

pub(super) async fn article(Path(name): Path<String>) -> Response {
    let Some(article) = ARTICLES.iter().find(|article| article.name == name) else {
        return missing().await;
    };
    let body = format!(
        "<article><h1>{}</h1>\n<p class=\"lead\">{}</p>\n{}</article>\n<p class=\"back\"><a href=\"/\">← All articles</a></p>",
        article.title, article.summary, article.body
    );
    Html(page(article.title, &body)).into_response()
}

pub(super) async fn missing() -> Response {
    let body = "<h1>Nothing here</h1>\n<p>This site has no such page. Behind the gateway, an answer like this one \
                is never charged.</p>\n<p class=\"back\"><a href=\"/\">← To the front page</a></p>";
    (StatusCode::NOT_FOUND, Html(page("Not found", body))).into_response()
}

pub(super) async fn broken() -> Response {
    let body = "<h1>This page is broken on purpose</h1>\n<p>It always answers 500, so that you can see that an error \
                of the site costs the buyer nothing.</p>\n<p class=\"back\"><a href=\"/\">← To the front page</a></p>";
    (StatusCode::INTERNAL_SERVER_ERROR, Html(page("Broken", body))).into_response()
}

fn page(title: &str, body: &str) -> String {
    LAYOUT.replace("<!--title-->", title).replace("<!--body-->", body)
}

fn list_entry(article: &Article) -> String {
    format!(
        "<li><a href=\"/articles/{}\">{}</a><p>{}</p></li>\n",
        article.name, article.title, article.summary
    )
}

/// Where the visitor reached the site, so that the commands on the front page can be copied as they stand.
fn public_origin(headers: &HeaderMap) -> String {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host = header("x-forwarded-host").or_else(|| header(HOST.as_str()));
    // Only what can stand in an authority: the value comes from the client and ends up in HTML.
    let plain = |host: &&str| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
    };
    match (header("x-forwarded-proto"), host.filter(plain)) {
        (Some("https"), Some(host)) => format!("https://{host}"),
        (_, Some(host)) => format!("http://{host}"),
        (_, None) => WRITTEN_FOR.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe::{get, request};
    use super::ARTICLES;

    #[tokio::test]
    async fn the_front_page_lists_every_article_and_shows_commands_that_work_where_it_is_read() {
        let headers = [("Host", "shop.example:8443"), ("X-Forwarded-Proto", "https")];
        let text = request("GET", "/", &headers, b"").await.text();
        for article in &ARTICLES {
            assert!(text.contains(&format!("href=\"/articles/{}\"", article.name)));
        }
        assert!(text.contains("tollgate pay https://shop.example:8443/articles/x402"), "{text}");
        assert!(!text.contains("127.0.0.1"));
    }

    #[tokio::test]
    async fn the_front_page_ignores_a_host_that_is_none() {
        for host in ["<script>alert(1)</script>", "a\"b", "", "a b"] {
            let text = request("GET", "/", &[("Host", host)], b"").await.text();
            assert!(text.contains("tollgate pay http://127.0.0.1:8402/articles/x402"), "{host}");
            assert!(!text.contains("alert(1)"));
        }
    }

    #[tokio::test]
    async fn every_article_is_a_complete_page() {
        for article in &ARTICLES {
            let answer = get(&format!("/articles/{}", article.name)).await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
            let text = answer.text();
            assert!(text.starts_with("<!doctype html>"));
            assert!(text.contains(&format!("<h1>{}</h1>", article.title)));
            assert!(text.trim_end().ends_with("</html>"));
            assert!(!text.contains("<!--"), "a marker was left in {}", article.name);
        }
    }

    #[tokio::test]
    async fn an_unknown_article_is_missing_and_the_list_is_on_the_front_page() {
        assert_eq!(get("/articles/nothing").await.status, 404);
        let list = get("/articles/").await;
        assert_eq!((list.status, list.header("location")), (302, Some("/#articles")));
    }

    #[tokio::test]
    async fn the_pages_load_nothing_from_elsewhere() {
        let style = get("/style.css").await;
        assert_eq!(style.header("content-type"), Some("text/css; charset=utf-8"));
        assert!(!style.text().contains("url(") && !style.text().contains("@import"));
        for path in ["/", "/articles/http-402", "/missing"] {
            let text = get(path).await.text();
            assert_eq!(text.matches("<link").count(), 2, "a stylesheet and an icon");
            assert!(text.contains("<link rel=\"stylesheet\" href=\"/style.css\">"));
            assert!(!text.contains("<script") && !text.contains("<img") && !text.contains("@import"));
        }
    }
}
