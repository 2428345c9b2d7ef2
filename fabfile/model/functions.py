"""PHP functions that are off for every site that does not name them (dev-sec php-baseline, less what a CMS needs)."""

from __future__ import annotations

import difflib

from .refusal import Wrong, quoted

# Starting programs, signalling and changing processes, making links out of the site's tree, and looking into the
# cache of scripts that all pools share. mail(), curl and ini_set() stay: common sites cannot do without.
_OFF = """
dl exec link opcache_get_configuration opcache_get_status passthru pcntl_alarm pcntl_async_signals pcntl_exec pcntl_fork
pcntl_get_last_error pcntl_getpriority pcntl_rfork pcntl_setpriority pcntl_signal pcntl_signal_dispatch
pcntl_signal_get_handler pcntl_sigprocmask pcntl_sigtimedwait pcntl_sigwaitinfo pcntl_strerror pcntl_unshare pcntl_wait
pcntl_waitpid pcntl_wexitstatus pcntl_wifcontinued pcntl_wifexited pcntl_wifsignaled pcntl_wifstopped pcntl_wstopsig
pcntl_wtermsig popen posix_kill posix_mkfifo posix_mknod posix_setegid posix_seteuid posix_setgid posix_setpgid
posix_setrlimit posix_setsid posix_setuid proc_close proc_get_status proc_nice proc_open proc_terminate shell_exec
symlink system
"""

DISABLED: tuple[str, ...] = tuple(_OFF.split())


def loosened(functions: tuple[str, ...]) -> tuple[str, ...]:
    """`functions`, each of which must be one that is off by default. Raises Wrong, with the nearest right one."""
    for index, name in enumerate(functions):
        if name not in DISABLED:
            near = difflib.get_close_matches(name, DISABLED, 1)
            hint = f"; did you mean {near[0]}?" if near else ", so there is nothing to allow; leave it out"
            raise Wrong(
                f"{quoted(name)} is not a function that is off by default{hint}", near[0] if near else None, at=(index,)
            )
    return functions
