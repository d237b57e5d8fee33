"""The command line."""

import argparse
import re
import secrets

DESCRIPTION = """\
Attacks an x402 server and counts what it gives away unpaid.

  run.sh --url http://127.0.0.1:8402/articles/x402     one server, at this machine
  run.sh                                               the proof: tollgate and @x402/express, in front of sites with habits

It needs one priced page, which it asks for in thousands of hostile ways. With a payment that works (a key with funds, or
any key where a sandbox settles) it also learns what the page says, and tries what only payers can try. Nothing is sent to
another machine unless the one who runs it says that the server is theirs.
"""
EPILOG = """\
A try ends as held, as a leak (priced content or a part of it came back without a settlement for it; or more was delivered
than settled; or the site was made to work, or was lied to, where the suite can see it), as refused although paid, or as not
applicable, with the reason. Exit status: 0 nothing leaked, 1 something did, 2 the run did not come to its end. What the reference
server gives away in the proof is told for comparison and does not count.
"""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("run.sh", description=DESCRIPTION, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    server = parser.add_argument_group("the server")
    server.add_argument("--url", action="append", default=[], metavar="URL",
                        help="the priced page; again for other addresses of the same page (https://, h2c, replicas)")  # fmt: skip
    server.add_argument("--free-url", metavar="URL", help="a page of the same server that costs nothing")
    server.add_argument("--other-url", action="append", default=[], metavar="URL",
                        help="another page of the same server and price; may be given again")  # fmt: skip
    server.add_argument("--marker", metavar="TEXT",
                        help="text that stands only in the priced page; default: the suite buys the page once")  # fmt: skip
    server.add_argument("--key-file", metavar="FILE",
                        help="a file with the key, in hexadecimal, of an account with funds, which pays for a tenth of "
                        "the tries that need it; default: one made up")  # fmt: skip
    server.add_argument("--i-own-this-server", action="store_true", dest="owned",
                        help="attack a server that is not on this machine")  # fmt: skip
    run = parser.add_argument_group("the run")
    run.add_argument("--only", action="append", default=[], metavar="ATTACK", help="this row alone; may be given again")
    run.add_argument("--matching", type=re.compile, default=re.compile(""), metavar="REGEX",
                     help="only tries whose names match; for rows whose tries do not wait for each other")  # fmt: skip
    run.add_argument("--tries", type=float, default=1.0, metavar="X", help="X times the usual number of tries")
    run.add_argument("--rate", type=float, metavar="N", help="at most N tries a second (default 200; the proof 5000)")
    run.add_argument("--seconds", type=float, default=600, metavar="N", help="at most N seconds in all (default 600)")
    run.add_argument("--seed", type=int, metavar="N", help="repeat the random choices of an earlier run")
    run.add_argument("--list", action="store_true", help="print the attacks and end")
    proof = parser.add_argument_group("the proof")
    proof.add_argument("--tollgate", metavar="PATH", help="the gateway (default: target/debug/tollgate)")
    proof.add_argument("--server", choices=["tollgate", "reference"], help="this one alone")
    proof.add_argument("--origin", action="append", default=[], metavar="NAME", help="this origin alone; may be given again")
    report = parser.add_argument_group("the report")
    report.add_argument("--json", metavar="FILE", help="write all results as JSON")
    report.add_argument("--markdown", metavar="FILE", help="write the table as Markdown")
    report.add_argument("--leaks", metavar="FILE", help="write the bytes of leaks (default: adversarial-leaks.txt)",
                        default="adversarial-leaks.txt")  # fmt: skip
    report.add_argument("--show-leaks", action="store_true", help="print them, too")
    given = parser.parse_args(arguments)
    if given.seed is None:
        given.seed = secrets.randbelow(1 << 32)
    if given.rate is None:
        given.rate = 200.0 if given.url else 5000.0
    return given
