use proptest::prelude::*;

use super::*;

fn spec(after: &[usize]) -> Spec {
    Spec {
        after: after.to_vec(),
        uses: Vec::new(),
        oneshot: false,
        probed: true,
        essential: true,
        restart: [200, 30_000],
        stop: 10_000,
        workloads: false,
        settles: false,
    }
}

/// Sends an event, and says only what is to be done, not what is to be said.
fn deeds(machine: &mut Machine, now: Millis, event: Event) -> Vec<Action> {
    let mut actions = machine.handle(now, event);
    actions.retain(|action| !matches!(action, Action::Say(..)));
    actions
}

fn exit(i: usize) -> Event {
    Event::Exited(i, false, "exit code 1".into())
}

#[test]
fn starts_in_order_of_readiness_and_stops_in_reverse() {
    use Action::*;
    let oneshot = Spec { oneshot: true, probed: false, ..spec(&[0]) };
    let mut machine = Machine::new(vec![spec(&[]), oneshot, spec(&[1])]);
    assert_eq!(deeds(&mut machine, 0, Event::Tick), [Start(0)]);
    assert_eq!(deeds(&mut machine, 1, Event::Started(0)), [Probe(0, 1)]);
    assert_eq!(deeds(&mut machine, 5, Event::Ready(0, 1)), [Start(1)]);
    assert_eq!(deeds(&mut machine, 6, Event::Started(1)), []);
    assert_eq!(deeds(&mut machine, 9, Event::Exited(1, true, "exit code 0".into())), [Start(2)]);
    assert_eq!(deeds(&mut machine, 10, Event::Started(2)), [Probe(2, 1), AllStarted]);
    assert_eq!(deeds(&mut machine, 20, Event::Ready(2, 1)), [AllReady]);

    assert_eq!(deeds(&mut machine, 30, Event::Stop), [Ask(2)], "through the one-shot that is done");
    assert_eq!(deeds(&mut machine, 40, exit(2)), [Ask(0)]);
    assert_eq!(deeds(&mut machine, 10_039, Event::Tick), []);
    assert_eq!(deeds(&mut machine, 10_040, Event::Tick), [Kill(0)]);
    assert_eq!(deeds(&mut machine, 10_050, exit(0)), [AllStopped]);
    assert_eq!(machine.deadline(), None);
}

#[test]
fn what_it_uses_does_not_delay_the_start_but_the_stop() {
    use Action::*;
    let user = Spec { uses: vec![0], ..spec(&[]) };
    let mut machine = Machine::new(vec![spec(&[]), user]);
    assert_eq!(deeds(&mut machine, 0, Event::Tick), [Start(0), Start(1)]);
    machine.handle(0, Event::Started(0));
    machine.handle(0, Event::Started(1));
    assert_eq!(deeds(&mut machine, 1, Event::Stop), [Ask(1)]);
    assert_eq!(deeds(&mut machine, 2, exit(1)), [Ask(0)]);
}

#[test]
fn pauses_double_and_are_short_again_after_a_good_run() {
    let mut machine = Machine::new(vec![spec(&[])]);
    let mut now = 0;
    let mut pauses = Vec::new();
    machine.handle(now, Event::Tick);
    for _ in 0..10 {
        machine.handle(now, Event::Started(0));
        assert_eq!(deeds(&mut machine, now, exit(0)), []);
        let until = machine.deadline().unwrap();
        assert_eq!(deeds(&mut machine, until - 1, Event::Tick), []);
        assert_eq!(deeds(&mut machine, until, Event::Tick), [Action::Start(0)]);
        pauses.push(until - now);
        now = until;
    }
    assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
    machine.handle(now, Event::Started(0));
    machine.handle(now + RAN_WELL_MS, exit(0));
    assert_eq!(machine.deadline(), Some(now + RAN_WELL_MS + 200));
    assert_eq!(machine.view(0).restarts, 10);
    assert_eq!(machine.view(0).last_error.as_deref(), Some("exit code 1"));
}

#[test]
fn only_what_has_another_share_while_it_starts_settles() {
    let mut machine = Machine::new(vec![Spec { settles: true, ..spec(&[]) }, spec(&[])]);
    machine.handle(0, Event::Tick);
    machine.handle(0, Event::Started(0));
    machine.handle(0, Event::Started(1));
    assert_eq!(deeds(&mut machine, 1, Event::Ready(0, 1)), [Action::Settle(0)]);
    assert_eq!(deeds(&mut machine, 2, Event::Ready(1, 1)), [Action::AllReady]);
}

/// After so many failures the console hears nothing of it; its share of the processors is another matter.
#[test]
fn one_that_is_ready_settles_whether_or_not_it_is_talked_about() {
    let mut machine = Machine::new(vec![Spec { settles: true, ..spec(&[]) }]);
    let mut now = 0;
    machine.handle(now, Event::Tick);
    for _ in 0..4 {
        machine.handle(now, Event::Started(0));
        machine.handle(now, exit(0));
        now = machine.deadline().unwrap();
        machine.handle(now, Event::Tick);
    }
    machine.handle(now, Event::Started(0));
    let actions = machine.handle(now, Event::Ready(0, 5));
    assert!(actions.contains(&Action::Settle(0)), "{actions:?}");
    assert!(!actions.iter().any(|action| matches!(action, Action::Say(..))), "{actions:?}");
}

#[test]
fn the_log_is_shown_at_the_third_failure_and_then_at_doublings() {
    let mut machine = Machine::new(vec![spec(&[])]);
    let mut shown = Vec::new();
    let mut told = Vec::new();
    let mut now = 0;
    machine.handle(now, Event::Tick);
    for n in 1..=30 {
        machine.handle(now, Event::Started(0));
        for action in machine.handle(now, exit(0)) {
            if let Action::Say(_, Notice::Failed { show_log, failures, .. }) = action {
                assert_eq!(failures, n);
                told.push(n);
                if show_log {
                    shown.push(n);
                }
            }
        }
        now = machine.deadline().unwrap();
        machine.handle(now, Event::Tick);
    }
    assert_eq!(told, [1, 2, 3, 6, 12, 24]);
    assert_eq!(shown, [3, 6, 12, 24]);
}

#[test]
fn a_restart_waits_until_what_it_needs_is_ready_again() {
    let mut machine = Machine::new(vec![spec(&[]), spec(&[0])]);
    machine.handle(0, Event::Tick);
    machine.handle(0, Event::Started(0));
    machine.handle(1, Event::Ready(0, 1));
    machine.handle(1, Event::Started(1));
    machine.handle(2, Event::Ready(1, 1));
    machine.handle(100, exit(0));
    machine.handle(110, exit(1));
    assert_eq!(deeds(&mut machine, 300, Event::Tick), [Action::Start(0)]);
    machine.handle(300, Event::Started(0));
    assert_eq!(deeds(&mut machine, 400, Event::Tick), []);
    assert_eq!(deeds(&mut machine, 401, Event::Ready(0, 1)), [], "of the run before");
    assert_eq!(deeds(&mut machine, 402, Event::Ready(0, 2)), [Action::Start(1)]);
}

#[test]
fn workloads_end_before_the_service_that_runs_them() {
    use Action::*;
    let runtime = Spec { workloads: true, ..spec(&[]) };
    let mut machine = Machine::new(vec![runtime, spec(&[0])]);
    machine.handle(0, Event::Tick);
    machine.handle(0, Event::Started(0));
    machine.handle(0, Event::Ready(0, 1));
    machine.handle(0, Event::Started(1));
    assert_eq!(deeds(&mut machine, 0, Event::Stop), [Ask(1)]);
    assert_eq!(deeds(&mut machine, 1, exit(1)), [EndWorkloads(0)]);
    let mut gone = machine.clone();
    assert_eq!(deeds(&mut gone, 50, Event::WorkloadsGone(0)), [Ask(0)]);
    assert_eq!(deeds(&mut gone, 51, exit(0)), [AllStopped]);

    assert_eq!(deeds(&mut machine, 10_001, Event::Tick), [KillWorkloads(0)], "they did not end");
    assert_eq!(machine.ending_workloads().collect::<Vec<_>>(), [0]);
    assert_eq!(deeds(&mut machine, 13_001, Event::Tick), [Ask(0)], "nor when killed");
    assert_eq!(deeds(&mut machine, 13_002, exit(0)), [AllStopped]);
}

#[test]
fn a_renewed_certificate_restarts_without_a_pause() {
    use Action::*;
    let mut machine = Machine::new(vec![spec(&[])]);
    machine.handle(0, Event::Tick);
    assert_eq!(deeds(&mut machine, 0, Event::Restart(0)), [], "not running yet");
    machine.handle(0, Event::Started(0));
    assert_eq!(deeds(&mut machine, 9, Event::Restart(0)), [Ask(0)]);
    assert_eq!(deeds(&mut machine, 10, Event::Exited(0, true, "exit code 0".into())), [Start(0)]);
    machine.handle(11, Event::Started(0));
    assert_eq!(deeds(&mut machine, 12, Event::Restart(0)), [Ask(0)]);
    assert_eq!(deeds(&mut machine, 20_000, Event::Tick), [Kill(0)]);
    assert_eq!(deeds(&mut machine, 30_000, Event::Tick), [], "two of it would fight: waited for");
    assert_eq!(deeds(&mut machine, 40_000, exit(0)), [Start(0)]);
}

#[test]
fn what_is_not_ready_for_long_is_mentioned_with_the_reason() {
    let mut machine = Machine::new(vec![spec(&[])]);
    machine.handle(0, Event::Tick);
    machine.handle(0, Event::Started(0));
    machine.handle(10, Event::NotReady(0, 1, "refused".into()));
    let mut said = Vec::new();
    while let Some(now) = machine.deadline().filter(|now| *now < 200_000) {
        for action in machine.handle(now, Event::Tick) {
            assert_eq!(
                action,
                Action::Say(0, Notice::StillNotReady { after: now, error: Some("refused".into()) })
            );
            said.push(now);
        }
    }
    assert_eq!(said, [45_000, 90_000, 180_000]);
}

#[test]
fn the_unessential_may_stay_away() {
    let luxury = Spec { essential: false, ..spec(&[]) };
    let mut machine = Machine::new(vec![luxury, spec(&[])]);
    machine.handle(0, Event::Tick);
    machine.handle(0, Event::StartFailed(0, "no such file".into()));
    machine.handle(0, Event::Started(1));
    assert_eq!(deeds(&mut machine, 1, Event::Ready(1, 1)), [Action::AllReady]);
    assert_eq!(machine.view(0).state, "backing-off");
}

/// A world of processes that does what the machine asks, badly.
struct World {
    machine: Machine,
    specs: Vec<Spec>,
    now: Millis,
    /// Live processes: whether one ignores the stop signal.
    live: Vec<Option<bool>>,
    run: Vec<u32>,
    ready: Vec<bool>,
    stopping: bool,
    workloads: Vec<bool>,
    stopped: bool,
}

impl World {
    fn new(specs: Vec<Spec>) -> World {
        let n = specs.len();
        World {
            machine: Machine::new(specs.clone()),
            workloads: specs.iter().map(|s| s.workloads).collect(),
            specs,
            now: 0,
            live: vec![None; n],
            run: vec![0; n],
            ready: vec![false; n],
            stopping: false,
            stopped: false,
        }
    }

    fn send(&mut self, event: Event, stubborn: bool) -> Result<(), TestCaseError> {
        let mut events = std::collections::VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            match &event {
                Event::Ready(i, run) if self.run[*i] == *run && self.live[*i].is_some() => {
                    self.ready[*i] = true
                }
                Event::Exited(i, well, _) => {
                    self.live[*i] = None;
                    self.ready[*i] = *well && self.specs[*i].oneshot;
                }
                _ => {}
            }
            for action in self.machine.handle(self.now, event) {
                self.obey(&action, stubborn, &mut events)?;
            }
        }
        Ok(())
    }

    fn obey(
        &mut self,
        action: &Action,
        stubborn: bool,
        events: &mut std::collections::VecDeque<Event>,
    ) -> Result<(), TestCaseError> {
        match *action {
            Action::Start(i) => {
                prop_assert!(!self.stopping, "nothing starts once all shall stop");
                prop_assert!(self.live[i].is_none(), "never two of one");
                prop_assert!(
                    self.specs[i].after.iter().all(|&d| self.ready[d]),
                    "what it waits for is ready"
                );
                self.live[i] = Some(stubborn);
                self.run[i] += 1;
                self.ready[i] = !self.specs[i].probed && !self.specs[i].oneshot;
                events.push_back(Event::Started(i));
            }
            Action::Ask(i) => {
                prop_assert!(self.live[i].is_some());
                if self.stopping {
                    for (d, spec) in self.specs.iter().enumerate() {
                        let needs_it = spec.after.contains(&i) || spec.uses.contains(&i);
                        prop_assert!(!needs_it || self.live[d].is_none(), "{} still needs {}", d, i);
                    }
                }
                if self.live[i] == Some(false) {
                    events.push_back(Event::Exited(i, true, "asked".into()));
                }
            }
            Action::Kill(i) => events.push_back(Event::Exited(i, false, "killed".into())),
            Action::KillWorkloads(i) => {
                self.workloads[i] = false;
                events.push_back(Event::WorkloadsGone(i));
            }
            Action::AllStopped => {
                prop_assert!(self.live.iter().all(Option::is_none), "nothing lives at the end");
                self.stopped = true;
            }
            _ => {}
        }
        Ok(())
    }
}

fn specs() -> impl Strategy<Value = Vec<Spec>> {
    let one = |i: usize| {
        let below = proptest::collection::vec(0..i.max(1), 0..3);
        (below.clone(), below, any::<bool>(), any::<bool>(), any::<bool>(), 50u64..1000).prop_map(
            move |(after, uses, oneshot, probed, workloads, first)| Spec {
                after: if i == 0 { Vec::new() } else { after },
                uses: if i == 0 { Vec::new() } else { uses },
                oneshot,
                probed: probed && !oneshot,
                essential: true,
                restart: [first, 30_000],
                stop: 5_000,
                workloads: workloads && !oneshot,
                settles: first % 2 == 0,
            },
        )
    };
    (1usize..7).prop_flat_map(move |n| (0..n).map(one).collect::<Vec<_>>())
}

proptest! {
    /// Whatever happens in whatever order: dependencies first, never two of one, no busy
    /// loop, and a stop in reverse that ends in bounded time.
    #[test]
    fn any_history_keeps_the_promises(
        specs in specs(),
        history in proptest::collection::vec((0u8..6, any::<prop::sample::Index>(), 0u64..3000, any::<bool>()), 0..60),
    ) {
        let n = specs.len();
        let mut world = World::new(specs);
        world.send(Event::Tick, false)?;
        for (kind, index, pause, stubborn) in history {
            world.now += pause;
            let i = index.index(n);
            let live = world.live[i].is_some();
            let event = match kind {
                0 | 1 if live => Event::Ready(i, world.run[i]),
                2 if live => Event::Exited(i, stubborn, "by itself".into()),
                3 => Event::Restart(i),
                4 => Event::NotReady(i, world.run[i], "no".into()),
                _ => Event::Tick,
            };
            world.send(event, stubborn)?;
            prop_assert!(world.machine.deadline().is_none_or(|d| d > world.now), "no busy loop");
        }
        world.stopping = true;
        let began = world.now;
        world.send(Event::Stop, false)?;
        for _ in 0..200 {
            if world.stopped { break }
            world.now = world.machine.deadline().expect("something to wait for");
            world.send(Event::Tick, false)?;
        }
        prop_assert!(world.stopped);
        prop_assert!(world.now - began <= STOP_TOTAL_MS + KILL_MS);
        prop_assert_eq!(world.machine.deadline(), None);
    }

    /// One that always ends at once is not started more often than its back-off allows.
    #[test]
    fn restarts_are_bounded_in_time(first in 50u64..2000, hours in 1u64..5) {
        let mut machine = Machine::new(vec![Spec { restart: [first, 30_000], ..spec(&[]) }]);
        let end = hours * 3_600_000;
        let (mut now, mut starts) = (0, 0u64);
        machine.handle(now, Event::Tick);
        while now < end {
            starts += 1;
            machine.handle(now, Event::Started(0));
            machine.handle(now, exit(0));
            now = machine.deadline().expect("a pause");
            machine.handle(now, Event::Tick);
        }
        prop_assert!(starts <= end / 30_000 + 11);
    }
}
