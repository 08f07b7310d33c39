//! x
#[test]
fn x() {
    for (name, run) in crate::synthetic::all() {
        crate::synthetic::written(name, &run);
    }
}
