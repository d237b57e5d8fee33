//! How long each step of the hot paths takes, and what it allocates.
//!
//! ```text
//! cargo bench --bench steps
//! ```

#![allow(missing_docs, clippy::unwrap_used)]

mod cases;

#[global_allocator]
static ALLOCATOR: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

#[divan::bench(args = cases::all())]
fn step(bencher: divan::Bencher, case: &cases::Case) {
    bencher.bench_local(|| (case.step)());
}
