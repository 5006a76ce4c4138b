//! Loads modules in parallel, each after what it needs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::CStr;
use std::fs::File;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::index::Load;
use super::{ModulesError, Problem};
use crate::stages::problem;

/// `MODULE_INIT_COMPRESSED_FILE` of linux/module.h: the kernel unpacks the file itself.
const COMPRESSED_FILE: i32 = 4;

/// More threads than this do not help: most modules wait for one lock in the kernel.
const MOST_THREADS: usize = 4;

/// Loads `modules` (what is needed before what needs it) and returns those that were new with the time
/// that each took, and what failed. A module whose need failed fails too.
pub fn load(modules: Vec<Load>) -> (Vec<(String, Duration)>, Vec<Problem>) {
    load_with(modules, &|load| finit_module(&load.path, parameters(&load.name)))
}

/// The scheduling, apart from the system call. `init` says whether the module was new.
fn load_with<F>(modules: Vec<Load>, init: &F) -> (Vec<(String, Duration)>, Vec<Problem>)
where
    F: Fn(&Load) -> Result<bool, ModulesError> + Sync,
{
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let queue = Queue::new(modules);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // A thread that cannot be had is one thread fewer: this one works too.
            let _ = std::thread::Builder::new()
                .name("modules".to_owned())
                .spawn_scoped(scope, || queue.work(init));
        }
        queue.work(init);
    });
    let state = queue.state.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    (state.loaded, state.problems)
}

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Load>,
    /// Names that are not finished yet, waiting or running.
    open: BTreeSet<String>,
    failed: BTreeSet<String>,
    loaded: Vec<(String, Duration)>,
    problems: Vec<Problem>,
}

impl Queue {
    fn new(modules: Vec<Load>) -> Queue {
        let open = modules.iter().map(|load| load.name.clone()).collect();
        let state = State { waiting: modules.into(), open, ..State::default() };
        Queue { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn work<F: Fn(&Load) -> Result<bool, ModulesError>>(&self, init: &F) {
        while let Some(load) = self.next() {
            let failed_need = load.needs.iter().find(|need| self.lock().failed.contains(*need)).cloned();
            let began = Instant::now();
            let result = match failed_need {
                Some(need) => Err(ModulesError::Need { name: load.name.clone(), need }),
                None => init(&load),
            };
            let mut state = self.lock();
            state.open.remove(&load.name);
            match result {
                Ok(true) => state.loaded.push((load.name, began.elapsed())),
                Ok(false) => {}
                Err(error) => {
                    state.failed.insert(load.name);
                    state.problems.push(problem(&error));
                }
            }
            self.changed.notify_all();
        }
    }

    /// A module whose needs are finished; waits while others are being loaded.
    fn next(&self) -> Option<Load> {
        let mut state = self.lock();
        loop {
            let open = &state.open;
            let ready =
                state.waiting.iter().position(|load| !load.needs.iter().any(|need| open.contains(need)));
            if let Some(position) = ready {
                return state.waiting.remove(position);
            }
            if state.waiting.is_empty() {
                return None;
            }
            if state.open.len() == state.waiting.len() {
                // Nothing runs and nothing can: the needs go round in a circle. Take the first; the
                // kernel says what it misses.
                return state.waiting.pop_front();
            }
            state = self.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}

/// Parameters of a module that does what nobody asked for without them.
fn parameters(name: &str) -> &'static CStr {
    match name {
        // It makes a device `bond0` by itself.
        "bonding" => c"max_bonds=0",
        _ => c"",
    }
}

/// Loads one file; false if the kernel had it already.
fn finit_module(path: &Path, parameters: &CStr) -> Result<bool, ModulesError> {
    let file = File::open(path).map_err(|source| ModulesError::Read { path: path.to_owned(), source })?;
    let flags = if path.extension().is_some_and(|end| end == "ko") { 0 } else { COMPRESSED_FILE };
    match rustix::system::finit_module(&file, parameters, flags) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        // A driver for hardware that is not there after all: harmless.
        Err(Errno::NODEV) => Ok(false),
        Err(errno) => Err(ModulesError::Load { path: path.to_owned(), source: errno.into() }),
    }
}

/// Sizes of the modules that the kernel has now, by name (`/proc/modules`).
pub fn present(root: &Path) -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(crate::report::under(root, "/proc/modules")).unwrap_or_default();
    let words = text.lines().map(|line| line.split(' '));
    words.filter_map(|mut words| Some((words.next()?.to_owned(), words.next()?.parse().ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn module(name: &str, needs: &[&str]) -> Load {
        Load {
            name: name.into(),
            path: PathBuf::from(name),
            needs: needs.iter().map(|&need| need.into()).collect(),
        }
    }

    #[test]
    fn nothing_is_loaded_before_what_it_needs() {
        let order = Mutex::new(Vec::new());
        let modules = vec![
            module("a", &[]),
            module("b", &["a"]),
            module("c", &["b", "a"]),
            module("x", &[]),
            module("y", &["x", "a"]),
        ];
        let (loaded, problems) = load_with(modules.clone(), &|load: &Load| {
            order.lock().unwrap().push(load.name.clone());
            Ok(true)
        });
        let order = order.into_inner().unwrap();
        assert_eq!(loaded.len(), 5);
        assert!(problems.is_empty());
        let place = |name: &str| order.iter().position(|known| known == name).unwrap();
        for module in &modules {
            for need in &module.needs {
                assert!(place(need) < place(&module.name), "{} before {need}", module.name);
            }
        }
    }

    #[test]
    fn a_failure_takes_along_what_needs_it_and_nothing_else() {
        let modules = vec![module("a", &[]), module("b", &["a"]), module("c", &[])];
        let (loaded, problems) = load_with(modules, &|load: &Load| match load.name.as_str() {
            "a" => Err(ModulesError::Load { path: "a.ko".into(), source: Errno::NOEXEC.into() }),
            _ => Ok(true),
        });
        assert_eq!(loaded.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["c"]);
        assert_eq!(problems.len(), 2);
    }

    #[test]
    fn a_circle_ends() {
        let (loaded, _) = load_with(vec![module("a", &["b"]), module("b", &["a"])], &|_: &Load| Ok(true));
        assert_eq!(loaded.len(), 2);
    }
}
