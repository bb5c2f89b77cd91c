use std::collections::HashMap;

use super::*;
use crate::base::Stop;
use crate::redis::Embedded;

const LEASE_KEY: &str = "in:lease";
const LIMIT: Duration = Duration::from_secs(30);
const LENGTH: Duration = Duration::from_secs(2);

struct World {
    server: Embedded,
}

impl World {
    fn start() -> World {
        let server = Embedded::start(&Stop::default()).unwrap();
        World { server }
    }

    fn engine(&self, name: &str) -> Engine {
        self.engine_for(name, LENGTH)
    }

    fn engine_for(&self, name: &str, length: Duration) -> Engine {
        let terms = LeaseTerms { group: "group".into(), holder: name.into(), length };
        let topology = Topology::from(self.server.address());
        let engines = ["in:engines".into(), "in:engines:changes".into()];
        Engine(LeaseClient::new(&topology, terms, engines, LIMIT).unwrap())
    }

    fn run<T: redis::FromRedisValue>(&self, words: &[&str]) -> Result<T, Fault> {
        let mut command = cmd(words[0]);
        words[1..].iter().for_each(|word| {
            command.arg(*word);
        });
        Control::new(self.server.address(), LIMIT).run("test", &command)
    }

    fn lease(&self) -> HashMap<String, String> {
        self.run(&["HGETALL", LEASE_KEY]).unwrap()
    }

    /// Sets the end of the lease, so that no test has to wait for it.
    fn end_lease(&self) {
        self.run::<Value>(&["HSET", LEASE_KEY, "until_ms", "1"]).unwrap();
    }
}

struct Engine(LeaseClient);

impl Engine {
    fn ask(&mut self, ask: LeaseAsk) -> LeaseState {
        let length = self.0.terms.length;
        let (members, mut states) = self.0.round(Presence::Here, &[(LEASE_KEY, ask, length)]);
        members.unwrap();
        states.remove(0).unwrap()
    }

    fn take(&mut self) -> LeaseState {
        self.ask(LeaseAsk::Take(0))
    }

    fn renew(&mut self, epoch: u64) -> bool {
        self.ask(LeaseAsk::Renew(epoch, Handover::default())).done
    }

    fn give(&mut self, epoch: u64) -> bool {
        self.ask(LeaseAsk::Give(epoch, Handover::default())).done
    }

    fn tenure(&self, epoch: u64) -> Tenure {
        self.0.terms.tenure(LEASE_KEY, epoch)
    }
}

#[test]
fn a_lease_is_taken_once_and_each_change_of_holder_raises_its_epoch() {
    let world = World::start();
    let (mut one, mut two) = (world.engine("one"), world.engine("two"));
    let taken = one.take();
    assert!(taken.done);
    assert_eq!((taken.holder.as_str(), taken.epoch), ("", 1));
    assert_eq!(world.lease()["holder"], "one");
    let refused = two.take();
    assert!(!refused.done);
    assert_eq!((refused.holder.as_str(), refused.epoch), ("one", 1));
    assert!(refused.left > LENGTH / 2 && refused.left <= LENGTH);
    world.end_lease();
    let taken = two.take();
    assert!(taken.done, "it was over");
    assert_eq!((taken.holder.as_str(), taken.epoch), ("one", 2));
    assert!(!one.renew(1) && !one.give(1), "it is another's");
    assert!(two.renew(2) && two.give(2));
    let free = one.ask(LeaseAsk::Look);
    assert_eq!((free.holder.as_str(), free.epoch, free.left), ("", 2, Duration::ZERO));
    assert_eq!(one.take().epoch, 3);
    assert_eq!(one.take().epoch, 4, "a lease taken again has another epoch");
}

#[test]
fn an_epoch_goes_above_what_the_caller_knows_though_the_server_knows_less() {
    let world = World::start();
    let mut one = world.engine("one");
    assert_eq!(one.ask(LeaseAsk::Take(7)).epoch, 8);
    world.run::<Value>(&["DEL", LEASE_KEY]).unwrap();
    assert!(!one.renew(8), "a server that has lost the lease does not renew it");
    assert_eq!(one.ask(LeaseAsk::Take(8)).epoch, 9);
}

#[test]
fn a_lease_that_is_over_can_be_renewed_until_another_engine_takes_it() {
    let world = World::start();
    let mut one = world.engine("one");
    one.take();
    world.end_lease();
    assert!(one.renew(1));
    assert!(one.ask(LeaseAsk::Look).left > Duration::ZERO);
}

#[test]
fn a_lease_made_before_the_clock_was_set_back_ends_in_time() {
    let world = World::start();
    let mut two = world.engine("two");
    world.engine_for("one", Duration::from_secs(9)).take();
    world.run::<Value>(&["HSET", LEASE_KEY, "until_ms", "9000000000000"]).unwrap();
    let left = two.ask(LeaseAsk::Look).left;
    assert!(left > Duration::from_secs(8) && left <= Duration::from_secs(9), "{left:?}");
}

#[test]
fn requests_of_the_former_holder_read_nothing_any_more() {
    let world = World::start();
    let (mut one, mut two) = (world.engine("one"), world.engine("two"));
    world.run::<Value>(&["XGROUP", "CREATE", "in", "group", "0", "MKSTREAM"]).unwrap();
    one.take();
    let stream = one.tenure(1).stream;
    let read = |block: &str| {
        let (group, names) = (["XREADGROUP", "GROUP", "group", "one"], ["STREAMS", "in"]);
        let words = [&group[..], &["BLOCK", block], &names, &[stream.as_str(), ">", ">"]];
        world.run::<Value>(&words.concat())
    };
    assert_eq!(read("1").unwrap(), Value::Nil, "the holder may read");
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| read("20000"));
        // The reader waits at the server before the lease changes hands.
        while !world.run::<String>(&["CLIENT", "LIST"]).unwrap().contains("cmd=xreadgroup") {
            std::thread::sleep(Duration::from_millis(1));
        }
        world.end_lease();
        assert!(two.take().done);
        let fault = blocked.join().unwrap().unwrap_err();
        assert!(matches!(fault.redis_code(), Some("UNBLOCKED" | "NOGROUP")), "{fault}");
    });
    world.run::<Value>(&["XADD", "in", "*", "data", "x"]).unwrap();
    assert_eq!(read("1").unwrap_err().redis_code(), Some("NOGROUP"));
}

#[test]
fn the_next_holder_hears_what_the_last_one_has_left() {
    let world = World::start();
    let (mut one, mut two) = (world.engine("one"), world.engine("two"));
    one.take();
    let ended = EntryId { millis: 5, sequence: 1 };
    let handover = Handover { ended, group: "identity".into() };
    assert!(one.ask(LeaseAsk::Renew(1, handover.clone())).done);
    // While a group is being recovered its identity is unknown: the old identity stays stored.
    assert!(one.ask(LeaseAsk::Renew(1, Handover { group: String::new(), ended })).done);
    world.end_lease();
    assert_eq!(two.take().handover, handover);
}

#[test]
fn members_come_and_go_and_each_change_wakes_the_others() {
    let world = World::start();
    let (mut one, mut two) = (world.engine("one"), world.engine("two"));
    let say = |engine: &mut Engine, what| engine.0.round(what, &[]).0.unwrap();
    let first = say(&mut one, Presence::Here);
    assert_eq!(first.names, ["one"]);
    let again = say(&mut one, Presence::Here);
    assert_eq!(again.last_change, first.last_change, "a further sign of life is no change");
    let both = say(&mut two, Presence::Here);
    assert_eq!(both.names, ["one", "two"]);
    assert!(both.last_change > first.last_change);
    one.0.await_change(first.last_change, Duration::from_secs(20)).unwrap();
    assert_eq!(say(&mut two, Presence::Gone).names, ["one"]);
    // An engine that was silent for longer than a lease lasts does not count as present.
    world.run::<Value>(&["ZADD", "in:engines", "1", "silent"]).unwrap();
    assert_eq!(say(&mut one, Presence::Here).names, ["one"]);
}

#[test]
fn what_a_former_holder_does_to_a_stream_is_refused() {
    let world = World::start();
    let (mut one, mut two) = (world.engine("one"), world.engine("two"));
    one.take();
    let script =
        concat!("local LEASE = 2\n", include_str!("../../scripts/fence.lua"), "return 'done'");
    let attempt = |tenure: &Tenure| {
        let keys = ["in", &tenure.lease, &tenure.stream];
        world.run::<String>(&[&["EVAL", script, "3"], &keys[..]].concat())
    };
    assert_eq!(attempt(&one.tenure(1)).unwrap(), "done");
    world.end_lease();
    assert_eq!(attempt(&one.tenure(1)).unwrap(), "done", "no other engine has it");
    two.take();
    assert_eq!(attempt(&one.tenure(1)).unwrap_err().redis_code(), Some("LEASE"));
    assert_eq!(attempt(&one.tenure(2)).unwrap_err().redis_code(), Some("LEASE"));
    assert_eq!(attempt(&two.tenure(2)).unwrap(), "done");
    two.give(2);
    assert_eq!(attempt(&two.tenure(2)).unwrap_err().redis_code(), Some("LEASE"));
    assert_eq!(world.run::<String>(&["EVAL", script, "1", "in"]).unwrap(), "done", "shared");
}

#[test]
fn a_group_of_another_name_has_leases_of_its_own() {
    assert_eq!(lease_key("frames:{3}", "stream_processor"), "frames:{3}:lease");
    assert_eq!(lease_key("frames:{3}", "archive"), "frames:{3}:lease:archive");
    let [engines, changes] = engines_keys("frames:{0}", "stream_processor");
    assert_eq!((&*engines, &*changes), ("frames:{0}:engines", "frames:{0}:engines:changes"));
    assert_eq!(engines_keys("frames", "archive")[0], "frames:engines:archive");
}
