//! Drivers of network cards, loaded beside what finds the root.
//!
//! A card takes up to seconds to answer its driver, and no stage before **network** needs one: the disk is waited for
//! meanwhile, not after. Threads and not the kernel's `async_probe`, as the cards of one driver get their names in the order
//! of the bus that way.

use std::collections::BTreeSet;
use std::thread::JoinHandle;
use std::time::Duration;

use super::Problem;
use super::index::Load;
use super::load;

/// Part of the paths of drivers of cards, and of what they share.
const FOLDER: &str = "/kernel/drivers/net/";

/// What was loaded, with the time that each took, and what failed.
type Outcome = (Vec<(String, Duration)>, Vec<Problem>);

/// Modules that are held back until there is a thread for them.
#[derive(Debug, Default)]
pub struct Cards {
    held: Vec<Load>,
    /// Names of those that the thread has.
    begun: BTreeSet<String>,
    job: Option<JoinHandle<Outcome>>,
    loaded: Vec<(String, Duration)>,
}

impl Cards {
    /// Takes those out of `modules` that only cards need; what was held back and is needed now comes back. One that turns up
    /// when the thread has begun is left to the root's first boot.
    pub fn hold(&mut self, modules: &mut Vec<Load>) {
        let is_of_card = |module: &Load| module.path.to_string_lossy().contains(FOLDER);
        let others = modules.iter().filter(|module| !is_of_card(module));
        let needed: BTreeSet<String> = others.flat_map(|module| module.needs.clone()).collect();
        // In their order: what a module needs comes before it.
        let all = std::mem::take(&mut self.held).into_iter().chain(std::mem::take(modules));
        (self.held, *modules) = all.partition(|module| is_of_card(module) && !needed.contains(&module.name));
        if !needed.is_disjoint(&self.begun) {
            self.wait();
        }
    }

    /// Begins to load them. Without a thread they are left to the root's first boot.
    pub fn begin(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let modules = std::mem::take(&mut self.held);
        self.begun = modules.iter().map(|module| module.name.clone()).collect();
        let thread = std::thread::Builder::new().name("cards".to_owned());
        self.job = thread.spawn(move || load::load(modules)).ok();
    }

    /// Waits until they are loaded. The root's first boot tries once more what has failed, and tells it.
    pub fn end(&mut self) -> Vec<(String, Duration)> {
        self.wait();
        std::mem::take(&mut self.loaded)
    }

    fn wait(&mut self) {
        let outcome = self.job.take().and_then(|job| job.join().ok());
        self.loaded.extend(outcome.into_iter().flat_map(|(loaded, _)| loaded));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(path: &str, needs: &[&str]) -> Load {
        let name = path.rsplit('/').next().unwrap().trim_end_matches(".ko").to_owned();
        Load { name, path: path.into(), needs: needs.iter().map(|&need| need.to_owned()).collect() }
    }

    #[test]
    fn what_only_cards_need_is_held_back() {
        let mut modules = vec![
            module("/lib/modules/6/kernel/drivers/dca/dca.ko", &[]),
            module("/lib/modules/6/kernel/drivers/net/mdio.ko", &[]),
            module("/lib/modules/6/kernel/drivers/net/ethernet/intel/igb/igb.ko", &["dca"]),
            module("/lib/modules/6/kernel/drivers/net/ethernet/ixgbe.ko", &["dca", "mdio"]),
            module("/lib/modules/6/kernel/drivers/net/ethernet/libcxgb.ko", &[]),
            module("/lib/modules/6/kernel/drivers/scsi/cxgbi.ko", &["libcxgb"]),
        ];
        let mut cards = Cards::default();
        cards.hold(&mut modules);
        let names = |modules: &[Load]| modules.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&modules), ["dca", "libcxgb", "cxgbi"]);
        assert_eq!(names(&cards.held), ["mdio", "igb", "ixgbe"]);
        // A disk behind a card, which is found later.
        let mut later = vec![module("/lib/modules/6/kernel/drivers/scsi/later.ko", &["mdio"])];
        cards.hold(&mut later);
        assert_eq!(names(&later), ["mdio", "later"]);
        assert_eq!(names(&cards.held), ["igb", "ixgbe"]);
    }

    #[test]
    fn a_machine_without_cards_has_nothing_to_wait_for() {
        let mut cards = Cards::default();
        cards.begin();
        assert_eq!(cards.end(), []);
        // What cannot be loaded is not counted, and does not hold up the boot.
        let mut modules = vec![module("/nowhere/kernel/drivers/net/dummy.ko", &[])];
        cards.hold(&mut modules);
        cards.begin();
        assert_eq!((modules.len(), cards.end()), (0, Vec::new()));
    }
}
