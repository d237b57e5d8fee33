//! Every key of a configuration file: the list that misspelt keys are found by, that messages take
//! their words from, and that the shipped `gateway.toml` is compared with.

/// The keys of one table.
#[derive(Debug)]
pub(super) struct Table {
    /// The table as an operator writes its header: `[limits]`.
    pub(super) header: &'static str,
    /// Its keys, in the order of the shipped file.
    pub(super) keys: &'static [Key],
}

/// A key.
#[derive(Debug)]
pub(super) struct Key {
    /// As written.
    pub(super) name: &'static str,
    /// What its value is, as messages say it: "expected …".
    pub(super) kind: &'static str,
    /// What it is for, in a few words.
    pub(super) doc: &'static str,
    /// Tables inside its value.
    pub(super) inner: Inner,
}

/// The tables inside a key's value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Inner {
    /// None, or the operator's own names.
    Free,
    /// The value, or each item of the list, may be this table.
    Table(&'static Table),
    /// The value is a table of names of the operator's choice, and each of these is this table.
    Named(&'static Table),
}

impl Table {
    /// The key of this name.
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// Every table, the top of the file first.
pub(super) const TABLES: &[&Table] = &[
    &TOP,
    &ROUTE,
    &ACCEPT,
    &PRICE,
    &MATCH,
    &LISTENER,
    &TLS,
    &ADMIN,
    &LOG,
    &LEDGER,
    &REDELIVERY,
    &LIMITS,
    &CORS,
    &SANDBOX,
    &UPSTREAM_TABLE,
    &FACILITATOR_TABLE,
    &AUTH,
    &SERVICE,
    &ASSET_TABLE,
    &CHAIN_TABLE,
];

const fn key(name: &'static str, kind: &'static str, doc: &'static str) -> Key {
    Key { name, kind, doc, inner: Inner::Free }
}

const fn table(name: &'static str, kind: &'static str, doc: &'static str, inner: &'static Table) -> Key {
    Key { name, kind, doc, inner: Inner::Table(inner) }
}

const fn named(name: &'static str, doc: &'static str, inner: &'static Table) -> Key {
    Key { name, kind: "a table", doc, inner: Inner::Named(inner) }
}

const TEXT: &str = "text in quotes";
const TEXTS: &str = "text in quotes or a list of texts";
const LIST: &str = "a list of texts";
const BOOL: &str = "true or false";
const NUMBER: &str = "a whole number";
const TABLE: &str = "a table";

const NETWORK: Key = key("network", TEXTS, "the networks payments are made on, such as \"base\"");
const NETWORKS: Key = key("networks", TEXTS, "the same as `network`");
const ASSET: Key = key("asset", TEXTS, "the tokens prices are paid in, such as \"USDC\"");
const ASSETS: Key = key("assets", TEXTS, "the same as `asset`");
const PAY_TO: Key = key("pay_to", "an address in quotes or a table of addresses", "who is paid");
const FACILITATOR: Key = table(
    "facilitator",
    "text in quotes, a table, or a list of them",
    "who verifies and settles payments",
    &FACILITATOR_TABLE,
);
const SETTLE: Key = key("settle", TEXT, "\"before-response\" or \"before-request\"");
const MAX_TIMEOUT: Key =
    key("max_timeout_seconds", NUMBER, "seconds a quote, and a payment made for it, may stay valid");
const V1: Key =
    key("v1", "true, false or \"only\"", "whether clients of the first protocol generation can pay");
const PAYMENT_IDENTIFIER: Key = key(
    "payment_identifier",
    TEXT,
    "whether clients may or must name their requests: \"optional\", \"required\" or \"none\"",
);
const MODE: Key = key("mode", TEXT, "\"enforce\" or \"shadow\"");
const UPSTREAM: Key = key("upstream", TEXT, "the site behind the gateway");

/// The top of a file that is included.
pub(super) const INCLUDED: Table = Table {
    header: "an included file",
    keys: &[table("routes", "a list of [[routes]]", "what costs what", &ROUTE)],
};

/// The top of the file.
pub(super) const TOP: Table = Table {
    header: "the top of the file",
    keys: &[
        key("listen", TEXTS, "addresses clients connect to"),
        key("public_url", TEXT, "what clients see of the site, such as \"https://example.com\""),
        UPSTREAM,
        PAY_TO,
        NETWORK,
        NETWORKS,
        ASSET,
        // Also the parent of [assets.NAME]; a file with such tables writes lists as `asset`.
        Key {
            name: "assets",
            kind: "text in quotes, a list of texts, or [assets.NAME] tables",
            doc: "the same as `asset`, or tokens by name",
            inner: Inner::Named(&ASSET_TABLE),
        },
        FACILITATOR,
        MODE,
        key("default", "\"free\", \"deny\" or a price", "what a request that matches no route costs"),
        SETTLE,
        MAX_TIMEOUT,
        V1,
        PAYMENT_IDENTIFIER,
        key("v1_networks", LIST, "networks shown to clients of the first protocol generation"),
        key("include", TEXTS, "files with more [[routes]], such as \"routes.d/*.toml\""),
        key("watch", BOOL, "whether this file is read again when it changes"),
        key("allow_plaintext_secrets", BOOL, "whether secrets may stand in this file"),
        table("routes", "a list of [[routes]]", "what costs what", &ROUTE),
        table("listeners", "a list of [[listeners]]", "addresses clients connect to, with TLS", &LISTENER),
        table("admin", TABLE, "the operator's private address", &ADMIN),
        table("log", TABLE, "how the log is written", &LOG),
        table("ledger", TABLE, "where payments are remembered", &LEDGER),
        table("redelivery", TABLE, "when what was paid for may be fetched again", &REDELIVERY),
        table("limits", TABLE, "limits on clients", &LIMITS),
        table("cors", TABLE, "which web pages may read the gateway's own answers", &CORS),
        table("sandbox", TABLE, "the built-in facilitator that moves no money", &SANDBOX),
        named("upstreams", "sites behind the gateway, by name", &UPSTREAM_TABLE),
        named("facilitators", "who verifies and settles, by name", &FACILITATOR_TABLE),
        table("facilitator_service", TABLE, "verifying and settling for other gateways", &SERVICE),
        named("chains", "nodes that are asked what became of payments, by network", &CHAIN_TABLE),
    ],
};

/// `[[routes]]`
pub(super) const ROUTE: Table = Table {
    header: "[[routes]]",
    keys: &[
        key("name", TEXT, "a name for logs and `tollgate explain`"),
        key("host", TEXTS, "hosts the route is for"),
        key("method", TEXTS, "methods the route is for"),
        key("path", TEXT, "paths the route is for"),
        key("path_regex", TEXT, "paths the route is for, as a regular expression"),
        named("header", "conditions on request headers", &MATCH),
        named("query", "conditions on query parameters", &MATCH),
        table("price", "a price in quotes", "what a request costs, such as \"$0.01\"", &PRICE),
        key("free", "true", "forwarded unpaid"),
        key("deny", "true", "refused with 403"),
        table("accepts", "a list of tables", "each way to pay, written out", &ACCEPT),
        MODE,
        UPSTREAM,
        NETWORK,
        NETWORKS,
        ASSET,
        ASSETS,
        PAY_TO,
        FACILITATOR,
        SETTLE,
        MAX_TIMEOUT,
        V1,
        PAYMENT_IDENTIFIER,
        key("description", TEXT, "what is sold, for people and agents"),
        key("mime_type", TEXT, "media type of what is sold"),
        key("service_name", TEXT, "the seller's name"),
        key("tags", LIST, "keywords for directories"),
        key("icon_url", TEXT, "an image for directories"),
        key("extensions", TABLE, "protocol extensions, advertised in the 402 as written"),
    ],
};

/// A table as `price`.
pub(super) const PRICE: Table = Table {
    header: "price",
    keys: &[
        key("amount", "a whole number in quotes", "the price in the smallest unit of the asset"),
        key("asset", TEXT, "the token the amount is in"),
    ],
};

/// An entry of `accepts`.
pub(super) const ACCEPT: Table = Table {
    header: "accepts",
    keys: &[
        key("scheme", TEXT, "the payment scheme"),
        NETWORK,
        ASSET,
        key("price", "a price in quotes", "what a request costs, such as \"$0.01\""),
        key("amount", "a whole number in quotes", "the price in the smallest unit of the asset"),
        PAY_TO,
        FACILITATOR,
        MAX_TIMEOUT,
        key("extra", TABLE, "what the scheme needs besides, sent as written"),
    ],
};

/// A condition on a header or query parameter.
pub(super) const MATCH: Table = Table {
    header: "the condition",
    keys: &[key("regex", TEXT, "a regular expression that must match somewhere in the value")],
};

/// `[[listeners]]`
pub(super) const LISTENER: Table = Table {
    header: "[[listeners]]",
    keys: &[
        key("address", TEXT, "IP address and port"),
        key("h2c", BOOL, "whether HTTP/2 without TLS is answered"),
        table("tls", "a list of { cert = \"…\", key = \"…\" }", "certificates, the default one first", &TLS),
    ],
};

/// A certificate of a listener.
pub(super) const TLS: Table = Table {
    header: "tls",
    keys: &[
        key("cert", TEXT, "PEM file with the certificate chain"),
        key("key", TEXT, "PEM file with the private key"),
    ],
};

/// `[admin]`
pub(super) const ADMIN: Table = Table {
    header: "[admin]",
    keys: &[key("listen", "an address in quotes or false", "the operator's private address")],
};

/// `[log]`
pub(super) const LOG: Table = Table {
    header: "[log]",
    keys: &[
        key("format", TEXT, "\"text\" or \"json\""),
        key("level", TEXT, "\"error\", \"warn\", \"info\", \"debug\" or \"trace\""),
    ],
};

/// `[ledger]`
pub(super) const LEDGER: Table = Table {
    header: "[ledger]",
    keys: &[
        key("url", TEXT, "where it is: \"sqlite://FILE\" or \"postgres://…\""),
        key("url_env", TEXT, "environment variable that says where it is"),
        key("retention_days", NUMBER, "days a payment is remembered"),
        key("takeover_after_seconds", NUMBER, "how long a gateway may be silent before others take over"),
    ],
};

/// `[redelivery]`
pub(super) const REDELIVERY: Table = Table {
    header: "[redelivery]",
    keys: &[
        key("window_seconds", NUMBER, "seconds after settlement during which it may be fetched again"),
        key("tries", NUMBER, "times it may be fetched again; 0: never"),
    ],
};

/// `[limits]`
pub(super) const LIMITS: Table = Table {
    header: "[limits]",
    keys: &[
        key("header_bytes", NUMBER, "bytes of a request's head"),
        key("payment_header_bytes", NUMBER, "bytes of one payment header"),
        key("header_timeout_ms", NUMBER, "milliseconds for a request's head to arrive"),
        key("keepalive_timeout_ms", NUMBER, "milliseconds an idle connection is kept"),
        key("read_timeout_ms", NUMBER, "milliseconds between two reads from a client"),
        key("write_timeout_ms", NUMBER, "milliseconds for a write to a client"),
        key("min_body_rate", NUMBER, "bytes per second below which a body is given up; 0: no limit"),
        key("payer_in_flight", NUMBER, "payments of one payer under way at a time; 0: no limit"),
        key("payer_in_flight_sum", TEXT, "their sum in one asset, such as \"$100\""),
        key(
            "payer_failures",
            NUMBER,
            "failed settlements of one payer, after which it is settled first; 0: any number",
        ),
        key("payer_failures_seconds", NUMBER, "seconds a failed settlement counts"),
        key("verify_in_flight", NUMBER, "verifications under way at a time"),
        key("shutdown_grace_seconds", NUMBER, "seconds requests get to finish at shutdown"),
        key("origin_time_seconds", NUMBER, "seconds a payment must stay valid when it arrives"),
    ],
};

/// `[cors]`
pub(super) const CORS: Table = Table {
    header: "[cors]",
    keys: &[key("allow_origins", TEXTS, "origins whose pages may read the gateway's answers, or \"*\"")],
};

/// `[sandbox]`
pub(super) const SANDBOX: Table = Table {
    header: "[sandbox]",
    keys: &[key("balance", TEXT, "test money every payer starts with, such as \"$1000\"")],
};

/// `[upstreams.NAME]`
pub(super) const UPSTREAM_TABLE: Table = Table {
    header: "[upstreams.NAME]",
    keys: &[
        key("url", TEXT, "where the site is"),
        key("http", TEXT, "\"auto\", \"1\" or \"2\""),
        key("host", TEXT, "\"preserve\", \"upstream\" or a host name"),
        key("sni", TEXT, "server name for TLS"),
        key("ca_file", TEXT, "PEM file with the certificate authorities to trust"),
        key("verify", BOOL, "whether the certificate is verified"),
        key("connect_timeout_ms", NUMBER, "milliseconds for connecting, TLS included"),
        key("read_timeout_ms", NUMBER, "milliseconds for each read"),
        key("write_timeout_ms", NUMBER, "milliseconds for each write"),
        key("idle_timeout_ms", NUMBER, "milliseconds an idle connection is kept"),
        key("reuse_after_body", BOOL, "whether a connection is used again after a request with a body"),
    ],
};

/// `[facilitators.NAME]`
pub(super) const FACILITATOR_TABLE: Table = Table {
    header: "[facilitators.NAME]",
    keys: &[
        key("kind", TEXT, "\"http\" or \"onchain\""),
        key("url", TEXT, "base URL of the facilitator"),
        key("ca_file", TEXT, "PEM file with the certificate authorities to trust"),
        key("insecure", BOOL, "whether http:// to another machine is allowed"),
        key("verify_timeout_ms", NUMBER, "milliseconds for a verification"),
        key("settle_timeout_ms", NUMBER, "milliseconds for a settlement"),
        key("supported_ttl_seconds", NUMBER, "seconds a list of supported payments counts as fresh"),
        table("auth", TABLE, "how the gateway identifies itself", &AUTH),
        key("network", TEXT, "the network it settles on"),
        key("rpc", TEXT, "URL of a node of the network"),
        key("rpc_env", TEXT, "environment variable with the URL of a node"),
        key("key", TEXT, "the key that pays for gas itself"),
        key("key_env", TEXT, "environment variable with the key that pays for gas"),
        key("key_file", TEXT, "file with the key that pays for gas"),
        key("confirmations", NUMBER, "blocks a payment's transaction must be in and under"),
        key("max_fee_gwei", "a number in quotes", "the most that is offered for gas, in gwei"),
        key("gas_limit", NUMBER, "the most gas a settlement may use"),
        key("low_balance", "an amount in quotes", "balance for gas below which the log warns"),
        key("replace_after_seconds", NUMBER, "seconds after which a stuck transaction's fee is raised"),
        key("wallet_factories", LIST, "contracts that may be called to deploy payers' wallets"),
    ],
};

/// `[facilitator_service]`
pub(super) const SERVICE: Table = Table {
    header: "[facilitator_service]",
    keys: &[
        key("listen", TEXT, "IP address and port"),
        key("facilitator", TEXT, "which facilitator is offered: one that settles on chain, or the sandbox"),
        key("token", TEXT, "the token that callers show itself"),
        key("token_env", TEXT, "environment variable with the token that callers show"),
        key("token_file", TEXT, "file with the token that callers show"),
        key("body_bytes", NUMBER, "bytes of a request's body"),
        key("in_flight", NUMBER, "requests answered at a time"),
    ],
};

/// `auth` of a facilitator.
pub(super) const AUTH: Table = Table {
    header: "auth",
    keys: &[
        key("kind", TEXT, "\"none\", \"bearer\", \"header\" or \"cdp\""),
        key("token", TEXT, "the bearer token itself"),
        key("token_env", TEXT, "environment variable with the bearer token"),
        key("token_file", TEXT, "file with the bearer token"),
        key("name", TEXT, "name of the header"),
        key("value", TEXT, "value of the header itself"),
        key("value_env", TEXT, "environment variable with the value of the header"),
        key("value_file", TEXT, "file with the value of the header"),
        key("key_id", TEXT, "id of the CDP API key"),
        key("key_id_env", TEXT, "environment variable with the id of the CDP API key"),
        key("secret", TEXT, "the CDP API key itself"),
        key("secret_env", TEXT, "environment variable with the CDP API key"),
        key("secret_file", TEXT, "file with the CDP API key"),
    ],
};

/// `[assets.NAME]`
pub(super) const ASSET_TABLE: Table = Table {
    header: "[assets.NAME]",
    keys: &[
        NETWORK,
        key("address", TEXT, "token contract or mint"),
        key("decimals", NUMBER, "decimal places of one unit"),
        key("name", TEXT, "name in the token's EIP-712 domain"),
        key("version", TEXT, "version in the token's EIP-712 domain"),
        key("method", TEXT, "\"eip3009\" or \"permit2\""),
    ],
};

/// `[chains.NAME]`
pub(super) const CHAIN_TABLE: Table = Table {
    header: "[chains.NAME]",
    keys: &[
        key("rpc", TEXT, "URL of a node that speaks JSON-RPC"),
        key("rpc_env", TEXT, "environment variable with the URL of a node"),
        key("insecure", BOOL, "whether http:// to another machine is allowed"),
        key("confirmations", NUMBER, "how deep a block must be to count; 1 is the latest one"),
        key("timeout_ms", NUMBER, "milliseconds for one question to the node"),
        key("accept_used", BOOL, "whether a payment that somebody else submitted counts"),
    ],
};
