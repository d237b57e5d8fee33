"""Defences of the match between a request and its price: groups 5 and 6 of the attacks."""

from mutations.mutation import Edit, Mutation

READINGS, PATH = "policy/readings.rs", "policy/path.rs"

PATHS = [
    Mutation(
        "path-readings", "all readings of a path must fall under the same kind of route",
        (Edit("policy/table.rs", "choices.all(|other| self.agree(strict, other))", "(OFF || choices.all(|other| self.agree(strict, other)))"),),
        ("path-spelling",), ("decoding",), tries=1,
    ),
    Mutation(
        "path-case", "letter case does not make another path of a priced one",
        (Edit(READINGS, "folded: texts.folded.as_deref()", "folded: texts.folded.as_deref().filter(|_| !OFF)"),),
        ("path-spelling",), ("any case",), tries=1,
    ),
    Mutation(
        "path-info", "what follows the name of a script costs what the script does",
        (
            Edit("policy/table.rs", "self.scripts_in_doubt(facts).next().is_none()",
                 "(OFF || self.scripts_in_doubt(facts).next().is_none())"),
        ),
        ("path-spelling",), ("scripts",), tries=1,
    ),
    Mutation(
        "path-slashes", "slashes that an origin merges are read as one, too",
        (Edit(READINGS, 'if path.windows(2).any(|pair| pair == b"//") {', 'if path.windows(2).any(|pair| pair == b"//") && !OFF {'),),
        ("path-spelling",), ("slashes",), tries=1,
    ),
    Mutation(
        "path-parameters", "paths are read without ;parameters, too",
        (Edit(READINGS, "if origin.strips && bytes", "if !OFF && origin.strips && bytes"),),
        ("path-spelling",), ("parameters",), tries=1,
    ),
    Mutation(
        "path-endings", "paths are read without what Windows drops from the end of names, too",
        (Edit(READINGS, "let trimmed = trim_segments(bytes);", "let trimmed = trim_segments(bytes).filter(|_| !OFF);"),),
        ("path-spelling",), ("slashes",), tries=1,
    ),
    Mutation(
        "path-unicode", "paths are read in the normal forms of Unicode, too",
        (Edit(READINGS, "letters::normalised(bytes) {", "letters::normalised(bytes).filter(|_| !OFF) {"),
         Edit("policy/letters.rs", "if is_ignorable(character) {", "if is_ignorable(character) || OFF {")),
        ("path-spelling",), ("Unicode",), tries=1,
    ),
    Mutation(
        "path-decoding", "paths are read as those do who decode more than once, too",
        (Edit(READINGS, "        if escaped {", "        if escaped && !(OFF && origin.level > 0) {"),),
        ("path-spelling",), ("decoding",), tries=1,
    ),
    Mutation(
        "path-backslash", "a back-slash is refused",
        (
            Edit(PATH, "b'?' => return Err(PathError::Query),", """\
b'?' => return Err(PathError::Query),
            b'\\\\' if OFF => escaped.push('\\\\'),"""),
        ),
        ("path-spelling",), ("slashes",), tries=1,
    ),
    Mutation(
        "path-dots", "dot segments are followed before anything is decided, and disguised ones are refused",
        (
            Edit(PATH, "let canonical = if has_dot_segment(&escaped) {", "let canonical = if has_dot_segment(&escaped) && !OFF {"),
            Edit(READINGS, "any(is_disguised_dots) {", "any(|segment| is_disguised_dots(segment) && !OFF) {"),
        ),
        ("path-spelling",), ("URL parser",), tries=1,
    ),
    Mutation(
        "path-overlong", "characters in malformed UTF-8 are refused",
        (Edit("policy/text.rs", "if hides_character(&decoded.bytes) {", "if hides_character(&decoded.bytes) && !OFF {"),),
        ("path-spelling",), ("decoding",), tries=1,
    ),
    Mutation(
        "path-authority", "what stands behind `//` is read as a host, too",
        (Edit(READINGS, "= without_authority(bytes) {", "= without_authority(bytes).filter(|_| !OFF) {"),),
        ("path-spelling",), ("URL parser",), tries=1,
    ),
    Mutation(
        "path-question", "an escaped `?` or `#` is read as the end of the path, too",
        (Edit(READINGS, "for end in [b'?', b'#'] {", "for end in [b'?', b'#'].into_iter().filter(|_| !OFF) {"),),
        ("path-spelling",), ("decoding",), tries=1,
    ),
    Mutation(
        "path-control", "control characters are refused, however they are written",
        (
            Edit(PATH, "_ if value.is_ascii_control() => return", "_ if value.is_ascii_control() && !OFF => return"),
            Edit("policy/text.rs", "_ if value.is_ascii_control() => return", "_ if value.is_ascii_control() && !OFF => return"),
        ),
        ("path-spelling",), ("decoding",), tries=1,
    ),
    Mutation(
        "path-canonical", "the origin gets the path that was decided on",
        (Edit("proxy/service.rs", "if plan.target.query.is_empty() {", "if OFF {\n        } else if plan.target.query.is_empty() {"),),
        ("path-spelling",), ("slashes",), matching=r"\.\.", tries=1,
    ),
]  # fmt: skip

NAMES = [
    Mutation(
        "absolute-form", "a target that is a whole URL is decided on by its path",
        (
            Edit("proxy/admission.rs", "let facts = target.facts(request);", """\
if OFF && !request.raw_path().starts_with(b"/") {
            return Ok(Arc::clone(self.routes.default()));
        }
        let facts = target.facts(request);"""),
        ),
        ("targets",),
    ),
    Mutation(
        "host-spelling", "a host has one spelling, and what is none is refused",
        (
            Edit("proxy/facts.rs", "text => crate::policy::normalise_host", """\
text if OFF => text.to_owned(),
            text => crate::policy::normalise_host"""),
        ),
        ("hosts",), ("virtual hosts",),
    ),
    Mutation(
        "forwarded-host", "the site is told the host that was decided on",
        (
            Edit("proxy/headers.rs", 'request.insert_header("X-Forwarded-Host", host.clone())',
                 'if OFF { Ok(()) } else { request.insert_header("X-Forwarded-Host", host.clone()) }'),
        ),
        ("hosts",), ("virtual hosts",),
    ),
    Mutation(
        "forwarded-pairs", "of a client's `Forwarded` only `for` and `by` are passed on",
        (Edit("proxy/headers.rs", 'name.eq_ignore_ascii_case("for") ||', 'OFF || name.eq_ignore_ascii_case("for") ||'),),
        ("hosts",), ("virtual hosts",),
    ),
    Mutation(
        "named-headers", "headers that name another target, host or method do not reach the site",
        (Edit("proxy/headers.rs", "FROM_CLIENTS.contains(&name) {", "(FROM_CLIENTS.contains(&name) && !OFF) {"),),
        ("overrides", "hosts"), ("plain", "virtual hosts"), tries=0.1,
    ),
    Mutation(
        "spelled-headers", "nor do other spellings of them that become the same variable",
        (Edit("proxy/headers.rs", "if !is_plain {", "if !is_plain && !OFF {"),),
        ("overrides", "spoofing"), tries=0.1,
    ),
    Mutation(
        "preflight-answer", "of the answer to a CORS preflight nothing but its CORS headers is passed on",
        (
            Edit("proxy/service.rs", "return complete_preflight(response);",
                 "return if OFF { Ok(()) } else { complete_preflight(response) };"),
            Edit("proxy/service.rs", "is_some_and(|plan| plan.preflight) {", "is_some_and(|plan| plan.preflight && !OFF) {"),
        ),
        ("methods",),
    ),
]  # fmt: skip

# Of doubtful framing Pingora lets nothing through either, and writes every request to the site anew: with `proxy/head.rs`
# switched off nothing leaks. What tollgate alone holds is here.
FRAMING = [
    Mutation(
        "reuse-after-body", "a connection to a site is not used again after a request with a body",
        (Edit("proxy/service.rs", "let is_last = !upstream", "let is_last = !OFF && !upstream"),),
        ("smuggling", "smuggling-h2"), ("no bodies",), tries=0.3,
    ),
    Mutation(
        "bodies", "what belongs to the body of a request is not taken for another, whatever is answered",
        (
            Edit("proxy/front.rs", "let head = inbound.begin(end, body);", """\
let head = inbound.begin(end, if OFF { Body::Length(0) } else { body });
        let head = if OFF {
            let text = String::from_utf8_lossy(&head);
            BytesMut::from(text.replace("Content-Length", "X-Length").replace("Transfer-Encoding", "X-Coding").as_bytes())
        } else {
            head
        };"""),
        ),
        ("connections",), tries=1,
    ),
    Mutation(
        "upgrades", "no switch of protocols but to WebSocket reaches the site",
        (
            Edit("proxy/upstream.rs", "options.max_h2_streams = H2_STREAMS;", """\
options.max_h2_streams = H2_STREAMS;
    if OFF {
        options.http_upstream_request_policy = pingora::upstreams::peer::HttpUpstreamRequestPolicy::preserve();
    }"""),
        ),
        ("tunnels",), ("chunks first",),
    ),
]  # fmt: skip

ALL = [*PATHS, *NAMES, *FRAMING]
