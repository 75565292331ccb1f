//! Takes system calls away from this process.

// Each test binary uses some of it.
#![allow(dead_code, unreachable_pub)]

use std::io::Error;

fn membarrier() -> libc::c_long {
    const QUERY: libc::c_long = 0;
    // SAFETY: membarrier takes two integers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_membarrier, QUERY, 0 as libc::c_long) }
}

/// Has `membarrier` fail in all threads of this process from now on, as on a kernel that does not know
/// it. There is no way back.
pub fn take_membarrier_away() {
    refuse(libc::SYS_membarrier, libc::ENOSYS);
    assert_eq!((membarrier(), Error::last_os_error().raw_os_error()), (-1, Some(libc::ENOSYS)));
}

/// Has a system call fail with that error in all threads of this process from now on. There is no way
/// back.
pub fn refuse(system_call: libc::c_long, error: libc::c_int) {
    const LOAD_NUMBER: libc::sock_filter = libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 };
    const fn answer(with: u32) -> libc::sock_filter {
        libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: with }
    }
    let mut program = [
        LOAD_NUMBER,
        libc::sock_filter { code: 0x15, jt: 0, jf: 1, k: system_call as u32 },
        answer(libc::SECCOMP_RET_ERRNO | error as u32),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let none: libc::c_ulong = 0;
    // SAFETY: integers only.
    let outcome = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1 as libc::c_ulong, none, none, none) };
    assert_eq!(outcome, 0, "{}", Error::last_os_error());
    // SAFETY: the filter and the program that it points to live until the call returns, which copies both.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            &raw const filter,
        )
    };
    assert_eq!(outcome, 0, "{}", Error::last_os_error());
}
