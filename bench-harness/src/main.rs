//! ringmain-bench
fn main() {}
