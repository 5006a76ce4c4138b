//! Starting one process.
//!
//! Between fork and exec only async-signal-safe calls are made, on values prepared before: another thread of
//! PID 1 may have held any lock at the time of the fork.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};

use super::Host;
use super::definitions::Definition;

/// Open files of a service, soft and hard. Go programs and containers expect to be able to use this many.
const NOFILE: u64 = 1_048_576;

/// Why there is no process.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// Fork, exec or a step in between.
    #[error("cannot start {program}{step}: {source}")]
    Start {
        /// The program.
        program: String,
        /// Which step in between, if it was one: `, setting its OOM score`.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The user that it runs as.
    #[error("cannot look up user {user:?} in {path}: {reason}")]
    User {
        /// Name.
        user: String,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// A user's ids.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Account {
    user: libc::uid_t,
    group: libc::gid_t,
    groups: Vec<libc::gid_t>,
}

/// Raises the limit of open files of this process, which those that it starts inherit. Without the right to
/// raise it further, as in some containers, the soft limit goes as far as the hard one.
pub fn raise_open_files() {
    let wanted = Rlimit { current: Some(NOFILE), maximum: Some(NOFILE) };
    if setrlimit(Resource::Nofile, wanted).is_err() {
        let maximum = getrlimit(Resource::Nofile).maximum;
        // Up to the hard limit needs no right.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

/// Starts a service in its own session and cgroup, with its output going to `log`.
pub fn spawn(host: &Host, definition: &Definition, procs: &File, log: OwnedFd) -> Result<Pid, SpawnError> {
    let service = &definition.service;
    let account = service.user.as_ref().map(|user| look_up(host, user)).transpose()?;
    let program = service.command.first().cloned().unwrap_or_default();
    let start_error = |source| SpawnError::Start { program: program.clone(), step: "", source };

    let errors = log.try_clone().map_err(start_error)?;
    let (failed, tell) =
        pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(|e| start_error(e.into()))?;
    let mut command = Command::new(&program);
    command
        .args(service.command.iter().skip(1))
        .env_clear()
        .envs(definition.environment.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors);
    let child = Child {
        procs: procs.as_raw_fd(),
        tell: tell.as_raw_fd(),
        oom_score: CString::new(service.oom_score.to_string()).unwrap_or_default(),
        account,
    };
    // SAFETY: `Child::set_up` makes system calls only, on memory that exists already.
    unsafe { command.pre_exec(move || child.set_up()) };
    // The handle is let go: the supervisor's loop waits for every child, orphans included.
    let spawned = command.spawn().map_err(|source| {
        let mut step = [u8::MAX];
        // Nothing to read: it was no step of ours.
        let _ = rustix::io::read(&failed, &mut step);
        SpawnError::Start {
            program: program.clone(),
            step: STEPS.get(usize::from(step[0])).copied().unwrap_or(""),
            source,
        }
    })?;
    Pid::from_raw(spawned.id().cast_signed()).ok_or_else(|| start_error(io::Error::other("no process id")))
}

/// What each step of [`Child::set_up`] is about.
const STEPS: [&str; 5] = [
    ", making its session",
    ", moving it to its cgroup",
    ", setting its OOM score",
    ", resetting signals",
    ", changing to its user",
];

/// What the child does to itself before it becomes the program.
struct Child {
    procs: RawFd,
    /// Takes the number of the step that failed: an error number alone does not say what was refused.
    tell: RawFd,
    oom_score: CString,
    account: Option<Account>,
}

impl Child {
    fn set_up(&self) -> io::Result<()> {
        let steps: [fn(&Child) -> io::Result<()>; STEPS.len()] = [
            Child::own_session,
            Child::enter_cgroup,
            Child::set_oom_score,
            Child::reset_signals,
            Child::become_user,
        ];
        for (number, step) in (0_u8..).zip(steps) {
            if let Err(error) = step(self) {
                // SAFETY: one byte of a live variable; the descriptor is open until exec.
                unsafe { libc::write(self.tell, (&raw const number).cast(), 1) };
                return Err(error);
            }
        }
        // SAFETY: it takes a number and cannot fail.
        unsafe { libc::umask(0o022) };
        Ok(())
    }

    fn own_session(&self) -> io::Result<()> {
        // SAFETY: no arguments.
        check(unsafe { libc::setsid() }).map(drop)
    }

    fn enter_cgroup(&self) -> io::Result<()> {
        // SAFETY: one byte of a constant; the descriptor is open in the parent. "0" stands for the writer.
        check(unsafe { libc::write(self.procs, c"0".as_ptr().cast(), 1) }).map(drop)
    }

    fn set_oom_score(&self) -> io::Result<()> {
        // SAFETY: constant path; as many bytes as the string has; the descriptor was just opened.
        unsafe {
            let file =
                check(libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC))?;
            let written =
                check(libc::write(file, self.oom_score.as_ptr().cast(), self.oom_score.count_bytes()));
            libc::close(file);
            written.map(drop)
        }
    }

    /// Masks are inherited, and so is what is ignored (signal(7)): a shell cannot trap what it was started to ignore. The
    /// threads of PID 1 block and ignore nothing, but that is not for them to promise.
    fn reset_signals(&self) -> io::Result<()> {
        // SAFETY: no handler is installed; a zeroed set is what sigemptyset fills in.
        unsafe {
            for signal in 1..=libc::SIGRTMAX() {
                // SIGKILL, SIGSTOP and the C library's own are refused, and cannot be ignored either.
                libc::signal(signal, libc::SIG_DFL);
            }
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            check(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())).map(drop)
        }
    }

    fn become_user(&self) -> io::Result<()> {
        let Some(account) = &self.account else { return Ok(()) };
        // SAFETY: the list has as many members as it says; the rest are numbers.
        unsafe {
            check(libc::setgroups(account.groups.len(), account.groups.as_ptr()))?;
            check(libc::setresgid(account.group, account.group, account.group))?;
            check(libc::setresuid(account.user, account.user, account.user)).map(drop)
        }
    }
}

fn check<T: PartialOrd + From<i8>>(result: T) -> io::Result<T> {
    if result < T::from(0) { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Reads passwd(5) and group(5) of the root: getpwnam would want the name service's libraries, which a static
/// program cannot load.
fn look_up(host: &Host, user: &str) -> Result<Account, SpawnError> {
    let passwd = host.below_root("/etc/passwd");
    let group = host.below_root("/etc/group");
    let fail = |path: &Path, reason: String| SpawnError::User {
        user: user.to_owned(),
        path: path.to_owned(),
        reason,
    };
    let users = fs::read_to_string(&passwd).map_err(|error| fail(&passwd, error.to_string()))?;
    let line = (users.lines().map(|line| line.split(':').collect::<Vec<_>>()))
        .find(|fields| fields.first() == Some(&user))
        .ok_or_else(|| fail(&passwd, "no such user; add it to [[setup.users]] of the profile".to_owned()))?;
    let id = |at: usize| line.get(at).and_then(|text| text.parse::<u32>().ok());
    let (Some(user_id), Some(group_id)) = (id(2), id(3)) else {
        return Err(fail(&passwd, "its line has no numeric user and group id".to_owned()));
    };
    // Supplementary groups are a bonus: without the file there are none.
    let groups = fs::read_to_string(group).unwrap_or_default();
    let of_user = groups.lines().filter_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let members = fields.get(3)?;
        members.split(',').any(|member| member == user).then(|| fields[2].parse().ok())?
    });
    let mut groups: Vec<libc::gid_t> = std::iter::once(group_id).chain(of_user).collect();
    groups.dedup();
    Ok(Account { user: user_id, group: group_id, groups })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_come_from_the_files_of_the_root() {
        let root = tempfile::tempdir().unwrap();
        let host = Host { root: root.path().to_owned(), ..Host::node() };
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(
            root.path().join("etc/passwd"),
            "root:x:0:0::/:\n_chrony:x:105:106::/var/lib/chrony:\nbad:x:a:b\n",
        )
        .unwrap();
        fs::write(root.path().join("etc/group"), "root:x:0:\nclock:x:9:other,_chrony\nshort\n").unwrap();
        assert_eq!(
            look_up(&host, "_chrony").unwrap(),
            Account { user: 105, group: 106, groups: vec![106, 9] }
        );
        let message = look_up(&host, "nobody").unwrap_err().to_string();
        assert!(
            message.contains("\"nobody\"")
                && message.contains("etc/passwd")
                && message.contains("setup.users")
        );
        assert!(look_up(&host, "bad").unwrap_err().to_string().contains("numeric"));
    }
}
