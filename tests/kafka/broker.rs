//! The broker that the other tests rely on: it keeps what it accepts, and fails as expected.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::support::{
    Broker, Isolation, LONG, Message, Outcome, Stored, available, read, read_until, send,
    send_in_transaction, shared, try_send,
};

fn numbered(count: usize) -> Vec<Message> {
    let message = |index: usize| {
        Message::new(format!("value-{index}"))
            .partition(0)
            .key(format!("key-{index}"))
            .header("index", index.to_string())
            .header("twice", "first")
            .header("twice", vec![0, 255])
    };
    (0..count).map(message).collect()
}

fn messages(found: Vec<Stored>) -> Vec<Message> {
    found.into_iter().map(|stored| stored.message).collect()
}

fn code(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    error.rdkafka_error_code()
}

#[test]
fn messages_come_back_in_order_with_their_headers() {
    let Some(broker) = shared() else { return };
    let topic = broker.new_topic("order", 1);
    let sent = numbered(10);
    send(broker, &topic, &sent);
    let found = read(broker, &topic, Isolation::Committed, LONG);
    assert!(found.iter().map(|stored| stored.offset).eq(0..10));
    assert!(found.iter().all(|stored| stored.timestamp.is_some_and(|at| at > 0)));
    assert_eq!(found[7].get("index"), Some(&b"7"[..]));
    assert_eq!(messages(found), sent);
}

#[test]
fn a_message_without_key_value_or_header_value_stays_one() {
    let Some(broker) = shared() else { return };
    let topic = broker.new_topic("empty", 3);
    let nothing = Message { partition: Some(2), ..Message::default() };
    let bare = Message { headers: vec![("bare".to_owned(), None)], ..nothing.clone() };
    let sent = vec![nothing, bare, Message::new("").partition(2)];
    send(broker, &topic, &sent);
    assert_eq!(messages(read(broker, &topic, Isolation::Committed, LONG)), sent);
}

#[test]
fn a_message_of_20_mb_passes() {
    let Some(broker) = shared() else { return };
    let topic = broker.new_topic("large", 1);
    let value: Vec<u8> = (0..20_000_000_u32).map(|at| (at.wrapping_mul(at) >> 7) as u8).collect();
    send(broker, &topic, &[Message::new(value.clone()), Message::new("small")]);
    let found = read(broker, &topic, Isolation::Committed, LONG);
    assert_eq!(found.len(), 2);
    assert!(found[0].value.as_ref() == Some(&value), "the same bytes");
}

#[test]
fn a_reader_waits_for_messages_to_come() {
    let Some(broker) = shared() else { return };
    let topic = broker.new_topic("late", 2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            send(broker, &topic, &numbered(5));
        });
        assert_eq!(read_until(broker, &topic, Isolation::Committed, 5, LONG).len(), 5);
    });
}

#[test]
fn an_aborted_transaction_is_not_among_the_committed_messages() {
    let Some(broker) = shared() else { return };
    let topic = broker.new_topic("transactions", 1);
    let aborted = [Message::new("aborted").partition(0)];
    let committed = [Message::new("committed").partition(0)];
    send_in_transaction(broker, &topic, &aborted, Outcome::Abort);
    send_in_transaction(broker, &topic, &committed, Outcome::Commit);
    assert_eq!(messages(read(broker, &topic, Isolation::Committed, LONG)), committed);
    let all = [aborted, committed].concat();
    assert_eq!(messages(read(broker, &topic, Isolation::All, LONG)), all);
}

#[test]
fn a_killed_and_a_stopped_broker_keep_what_they_have_taken() {
    if !available() {
        return;
    }
    let mut broker = Broker::start();
    let bootstrap = broker.bootstrap();
    let topic = broker.new_topic("kept", 1);
    let sent = numbered(10);
    send(&broker, &topic, &sent);
    broker.kill();
    broker.start_again();
    assert_eq!(broker.bootstrap(), bootstrap);
    assert_eq!(messages(read(&broker, &topic, Isolation::Committed, LONG)), sent);
    broker.stop();
    broker.start_again();
    assert_eq!(messages(read(&broker, &topic, Isolation::Committed, LONG)), sent);
}

#[test]
fn a_frozen_broker_answers_after_it_is_thawed() {
    if !available() {
        return;
    }
    let mut broker = Broker::start();
    let topic = broker.new_topic("frozen", 1);
    let mut impatient = broker.client();
    impatient.set("message.timeout.ms", "1000");
    broker.freeze();
    let refused = try_send(impatient.clone(), &topic, &numbered(1)).unwrap_err();
    assert_eq!(code(&refused), Some(RDKafkaErrorCode::MessageTimedOut));
    broker.thaw();
    send(&broker, &topic, &numbered(2));
    assert_eq!(read(&broker, &topic, Isolation::Committed, LONG).len(), 2);
}

#[test]
fn a_property_of_the_server_and_one_of_a_topic_hold() {
    if !available() {
        return;
    }
    let broker = Broker::with(&[("message.max.bytes", "1000000")]);
    broker.create_topic("small", 1, &[]);
    broker.create_topic("large", 1, &[("max.message.bytes", "3000000")]);
    let large = [Message::new(vec![7; 2_000_000])];
    let refused = try_send(broker.client(), "small", &large).unwrap_err();
    assert_eq!(code(&refused), Some(RDKafkaErrorCode::MessageSizeTooLarge));
    send(&broker, "large", &large);
}

#[test]
fn a_secured_broker_refuses_what_a_user_has_no_right_to() {
    if !available() {
        return;
    }
    let broker = Broker::secured();
    let (open, closed) = (broker.new_topic("open", 1), broker.new_topic("closed", 1));
    broker.allow("bridge", &["--operation", "Write", "--operation", "Describe", "--topic", &open]);
    try_send(broker.client_as("bridge"), &open, &numbered(1)).unwrap();
    let refused = try_send(broker.client_as("bridge"), &closed, &numbered(1)).unwrap_err();
    assert_eq!(code(&refused), Some(RDKafkaErrorCode::TopicAuthorizationFailed));
    try_send(broker.client_as("admin"), &closed, &numbered(1)).unwrap();
    assert_eq!(read(&broker, &open, Isolation::Committed, LONG).len(), 1);
    assert_eq!(read(&broker, &closed, Isolation::Committed, LONG).len(), 1);
    let mut stranger = broker.client_as("bridge");
    stranger.set("sasl.password", "wrong").set("message.timeout.ms", "1000");
    assert!(try_send(stranger, &open, &numbered(1)).is_err());
}
