//! Named moments of a run at which a test can kill this process. Compiled out of optimised builds.

/// With `FOSSE_FAILPOINT=name` in a debug build, dies here by SIGKILL: no clean-up runs.
#[inline]
pub(crate) fn pass(name: &str) {
    #[cfg(debug_assertions)]
    if crate::base::env::get("FOSSE_FAILPOINT").is_some_and(|wanted| wanted == name) {
        crate::sys::process::kill_self();
    }
    #[cfg(not(debug_assertions))]
    let _unused = name;
}
