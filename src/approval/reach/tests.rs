use super::*;
use crate::approval::ApprovalSettings;
use crate::approval::record::Forgetful;
use crate::approval::testing::{desk_with, held, opened, settings, taken_in};
use crate::hold::{Board, Ticket};

/// What one request meets with: a profile's channels, and whether its rule refuses what nobody can be told of.
fn rule(channels: &[&str], unreachable: Unreachable) -> ApprovalSettings {
    let mut settings = settings();
    let profile = Arc::make_mut(&mut settings.default);
    profile.channels = channels.iter().map(|name| (*name).to_owned()).collect();
    profile.unreachable = unreachable;
    settings
}

/// A held request, and slack, mail and the webhook on-call to tell people of it.
async fn stage(channels: &[&str], unreachable: Unreachable) -> (Arc<ApprovalDesk>, Board, Reach, Ticket) {
    let (desk, board) = desk_with(rule(channels, unreachable), Arc::new(Forgetful));
    let names = |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).to_owned()).collect() };
    let reach = Reach::new(Arc::clone(&desk), names(&["slack", "mail"]), names(&["on-call"]));
    let ticket = held(&desk, &board, "app").await;
    (desk, board, reach, ticket)
}

#[tokio::test]
async fn a_request_is_refused_when_none_of_its_channels_can_be_reached_and_not_before() {
    for channels in [&[][..], &["slack", "mail"]] {
        let (_desk, _board, reach, ticket) = stage(channels, Unreachable::Reject).await;
        reach.failed(ticket.id(), "slack");
        reach.failed(ticket.id(), "slack");
        assert_eq!(ticket.failure(), None, "{channels:?}: mail may still reach somebody");
        reach.failed(ticket.id(), "mail");
        assert_eq!(ticket.failure(), Some(Cause::Unreachable), "{channels:?}");
    }
}

#[tokio::test]
async fn a_channel_that_comes_back_counts_again() {
    let (_desk, _board, reach, ticket) = stage(&[], Unreachable::Reject).await;
    reach.failed(ticket.id(), "slack");
    reach.reached(ticket.id(), "slack");
    reach.failed(ticket.id(), "mail");
    assert_eq!(ticket.failure(), None);
}

#[tokio::test]
async fn what_was_announced_anywhere_waits() {
    let (desk, _board, reach, ticket) = stage(&[], Unreachable::Reject).await;
    desk.place(ticket.id()).unwrap().references().insert("mail".to_owned(), "somewhere".to_owned());
    reach.failed(ticket.id(), "slack");
    reach.failed(ticket.id(), "mail");
    assert_eq!(ticket.failure(), None);
}

#[tokio::test]
async fn a_rule_that_waits_waits() {
    let (_desk, _board, reach, ticket) = stage(&["slack"], Unreachable::Wait).await;
    reach.failed(ticket.id(), "slack");
    assert_eq!(ticket.failure(), None);
}

#[tokio::test]
async fn a_channel_that_does_not_exist_reaches_nobody() {
    let (_desk, _board, reach, ticket) = stage(&["slack", "gone"], Unreachable::Reject).await;
    reach.failed(ticket.id(), "slack");
    assert_eq!(ticket.failure(), Some(Cause::Unreachable));
}

#[tokio::test]
async fn a_webhook_counts_where_it_is_named_and_what_comes_while_it_is_down_is_refused() {
    let (desk, board, reach, ticket) = stage(&["slack", "on-call"], Unreachable::Reject).await;
    let (_sender, stop) = watch::channel(false);
    reach.failed(ticket.id(), "slack");
    assert_eq!(ticket.failure(), None);
    reach.down("on-call");
    assert_eq!(ticket.failure(), Some(Cause::Unreachable));
    reach.up("on-call");
    let second = opened(&board, "app");
    taken_in(&desk, &second).await;
    reach.failed(second.id(), "slack");
    assert_eq!(second.failure(), None, "the webhook is back");

    let (desk, board, reach, first) = stage(&["on-call"], Unreachable::Reject).await;
    reach.down("on-call");
    assert_eq!(first.failure(), Some(Cause::Unreachable));
    let watching = tokio::spawn(reach.watch(stop));
    let mut later = opened(&board, "app");
    taken_in(&desk, &later).await;
    // Nobody decides: what wakes the ticket is its failure.
    let failed = std::future::poll_fn(|context| {
        let _pending = later.poll_decision(context);
        later.failure().map_or(std::task::Poll::Pending, std::task::Poll::Ready)
    });
    assert_eq!(failed.await, Cause::Unreachable);
    watching.abort();
}
