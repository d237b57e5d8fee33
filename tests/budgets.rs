//! What the steps of the hot paths may allocate. A count does not depend on the machine or the hour,
//! so a step that got dearer fails here before anybody measures its time (`benches/steps.rs`).

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../benches/cases/mod.rs"]
mod cases;

use alloc_tracker::{Allocator, Session};

#[global_allocator]
static ALLOCATOR: Allocator<std::alloc::System> = Allocator::system();

/// The only test here: others beside it would be counted as well.
#[test]
fn no_step_of_the_hot_paths_allocates_more_than_its_budget() {
    let session = Session::new().no_stdout().no_file();
    let mut over = Vec::new();
    for case in cases::all() {
        // The first time, what lasts is set up as well.
        (case.step)();
        // Now and then a table of the program's own grows; the least of a few is the step alone.
        let least =
            (0..5).map(|turn| counted(&session, &format!("{case} {turn}"), &case.step)).min().unwrap();
        println!("{case}: {least}");
        if least > case.allocations_max {
            over.push(format!("{case}: {least}"));
        }
    }
    assert!(over.is_empty(), "over budget:\n{}", over.join("\n"));
}

fn counted(session: &Session, name: &str, step: &dyn Fn()) -> u64 {
    let operation = session.operation(name);
    {
        let _span = operation.measure_process().iterations(1);
        step();
    }
    let report = session.to_report();
    report.operations().find(|(found, _)| *found == name).unwrap().1.total_allocations_count()
}
