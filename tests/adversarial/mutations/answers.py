"""Defences of what is told, kept, borne and written down: groups 7 to 10 of the attacks."""

from mutations.mutation import Edit, Mutation

TALKATIVE = ("talkative",)
IN_FRONT = ("nginx cache in front", "Varnish cache in front")

TOLD = [
    Mutation(
        "interim", "interim answers of a priced page tell nothing",
        (
            Edit("proxy/admission.rs", "SettleWhen::BeforeResponse => ctx.payment = Payment::Admitted(permit),", """\
SettleWhen::BeforeResponse => {
                if OFF {
                    session.as_downstream_mut().set_ignore_info_resp(false);
                }
                ctx.payment = Payment::Admitted(permit);
            }"""),
            Edit("proxy/service.rs", "headers::silence(response)?;", "if !OFF { headers::silence(response)?; }"),
        ),
        ("early-leaks",), TALKATIVE,
    ),
    Mutation(
        "conditions", "the site is not asked about conditions for which nothing would be charged",
        (Edit("proxy/headers.rs", "if preflight || matches!(request.method", "if !OFF && preflight || !OFF && matches!(request.method"),),
        ("uncharged-answers",), TALKATIVE, tries=1,
    ),
    Mutation(
        "withheld", "an answer about a condition or a range that was not charged says nothing of the content",
        (Edit("proxy/service.rs", "headers::withhold_content(response)?;", "if !OFF { headers::withhold_content(response)?; }"),),
        ("uncharged-answers",), TALKATIVE, tries=1,
    ),
    Mutation(
        "private", "what was paid for is kept out of shared caches",
        (Edit("proxy/service.rs", "headers::make_private(response)?;", "if !OFF { headers::make_private(response)?; }"),),
        ("shared-caches",), IN_FRONT, tries=1, matching="^bought, then GET \\[\\],",
    ),
    Mutation(
        "cache-vary", "what is answered to a payment is not for requests without it",
        (Edit("proxy/headers.rs", 'append(response, header::VARY, "PAYMENT-SIGNATURE, X-PAYMENT")',
              'if OFF { Ok(()) } else { append(response, header::VARY, "PAYMENT-SIGNATURE, X-PAYMENT") }'),),
    ),
    Mutation(
        "cache-vendors", "headers by which a site speaks to caches in words of their own are taken away",
        (Edit("proxy/headers.rs", "!SHARED_HEADERS.contains(", "OFF || !SHARED_HEADERS.contains("),),
        ("shared-caches",), IN_FRONT, beside=("cache-vary",), tries=1, matching="^bought, then GET \\[\\],",
    ),
]  # fmt: skip

SPOOFED = [
    Mutation(
        "own-headers", "only tollgate tells the site who has paid",
        (Edit("proxy/headers.rs", "if name.starts_with(OWN_PREFIX) ||", "if (name.starts_with(OWN_PREFIX) && !OFF) ||"),),
        ("spoofing",),
    ),
    Mutation(
        "client-address", "the site is told the address that tollgate sees",
        (
            Edit("proxy/headers.rs", 'request.insert_header("X-Forwarded-For", all)?;',
                 'if !OFF { request.insert_header("X-Forwarded-For", all)?; }'),
            Edit("proxy/headers.rs", 'request.insert_header("Forwarded", all)?;',
                 'if !OFF { request.insert_header("Forwarded", all)?; }'),
        ),
        ("spoofing",),
    ),
]  # fmt: skip

BORNE = [
    Mutation(
        "readings-bound", "a path that can be read in too many ways is refused before all are looked at",
        (Edit("policy/readings.rs", "if self.found.len() == READINGS_MAX {", "if self.found.len() == READINGS_MAX && !OFF {"),),
        ("exhaustion",), ("crowd",), matching="^paths that can be read", alone=True, tries=1,
    ),
    Mutation(
        "own-turn", "nobody waits for the verification of somebody else's payment",
        (
            Edit("payment/gate.rs", "let offer = match &route.decision {", """\
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _turn = if OFF { Some(TURN.lock().await) } else { None };
        let offer = match &route.decision {"""),
        ),
        ("exhaustion",), ("crowd",), matching="^payments whose verification", alone=True, tries=1,
    ),
]  # fmt: skip

WRITTEN = [
    Mutation(
        "public-url", "offers name the site as its operator does, never by a request's host",
        (
            Edit("proxy/service.rs", "let resource = resource.asked_of(&target.host);", """\
let resource = if OFF {
            let host = session.req_header().headers.get("host").map_or("", |host| host.to_str().unwrap_or(""));
            Resource::new(&format!("http://{host}"), target.path.as_str(), &target.query)
        } else {
            resource
        };
        let resource = resource.asked_of(&target.host);"""),
        ),
        ("forged-requests",),
    ),
    Mutation(
        "encoded-url", "what a client has escaped in a URL stays so where the URL is repeated",
        (
            Edit("payment/challenge.rs", "push_encoded(&mut url, query);", """\
if OFF {
                url.push_str(&query.replace("%3C", "<").replace("%3E", ">").replace("%22", "\\""));
            } else {
                push_encoded(&mut url, query);
            }"""),
        ),
        ("injection",),
    ),
    Mutation(
        "escaped-page", "text in a page for browsers stays text",
        (
            Edit("proxy/paywall/mod.rs", "'<' => escaped.push_str(", "'<' if !OFF => escaped.push_str("),
            Edit("proxy/paywall/mod.rs", "'>' => escaped.push_str(", "'>' if !OFF => escaped.push_str("),
        ),
        ("injection",), beside=("encoded-url",),
    ),
    Mutation(
        "no-sniffing", "no browser may take an answer in JSON for a page",
        (
            Edit("proxy/respond.rs", 'answer.set(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));',
                 'if !OFF { answer.set(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")); }'),
        ),
        ("injection",), beside=("encoded-url",),
    ),
    Mutation(
        "page-policy", "a page for browsers forbids all scripts but its own",
        (
            Edit("proxy/respond.rs", "answer.set_text(header::CONTENT_SECURITY_POLICY, content_security_policy(&nonce))?;",
                 "if !OFF { answer.set_text(header::CONTENT_SECURITY_POLICY, content_security_policy(&nonce))?; }"),
        ),
        ("injection",),
    ),
    Mutation(
        "logged-path", "queries are not written to the log",
        (
            Edit("proxy/access.rs", "let path = path(request, ctx);",
                 'let path = if OFF { request.uri.path_and_query().map_or("", |all| all.as_str()).into() } else { path(request, ctx) };'),
        ),
        ("records",), ("log as text",), tries=1,
    ),
    Mutation(
        "metric-labels", "nothing that a client writes names a series of the metrics",
        (
            Edit("proxy/access.rs", "metrics.request(&label, ctx.outcome, took);", """\
metrics.request(
        &if OFF { std::sync::Arc::from(session.req_header().uri.path()) } else { std::sync::Arc::clone(&label) },
        ctx.outcome,
        took,
    );"""),
        ),
        ("records",), ("log as JSON",), tries=1,
    ),
    Mutation(
        "formulas", "no cell of an export is a formula",
        (
            Edit("cli/ledger/export.rs", "Self::Text(text) => harmless(text),", """\
Self::Text(text) if OFF => text,
            Self::Text(text) => harmless(text),"""),
        ),
        ("records",), ("log as JSON",), tries=1,
    ),
]  # fmt: skip

ALL = [*TOLD, *SPOOFED, *BORNE, *WRITTEN]
