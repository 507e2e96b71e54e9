use std::sync::atomic::{AtomicUsize, Ordering};

use daypass_base::{Clock, Secret};

use super::*;
use crate::testing::Bench;

fn bench() -> Bench {
    let aws = super::super::Aws::new(Arc::new(daypass_aws::FakeAws::new(Arc::new(daypass_base::sim::SimClock::default()))));
    Bench::new(aws, "aws/", "aws")
}

fn cx() -> Cx {
    bench().cx("sts/r", daypass_sdk::Operation::Read)
}

/// A request of a client of its own.
fn of(bench: &mut Bench, client: usize) -> Cx {
    of_client(bench, &client.to_string(), client)
}

/// A request of a client, with a token of its own.
fn of_client(bench: &mut Bench, client: &str, token: usize) -> Cx {
    client.clone_into(&mut bench.caller.client_id);
    bench.caller.key = u128::try_from(token + 1).unwrap().to_be_bytes();
    bench.cx("sts/r", daypass_sdk::Operation::Read)
}

fn kept() -> Kept {
    Kept::beside(Arc::default())
}

fn same(number: u8) -> Same {
    let (caller, input) = (Some([number; 16]), AssumeRole::default());
    Same { caller, is_chosen: false, role: "r".to_owned(), written: (String::new(), 1), config: 0, input }
}

async fn minted(cx: &Cx, asked: &AtomicUsize) -> Result<Minted> {
    let number = asked.fetch_add(1, Ordering::Relaxed);
    tokio::task::yield_now().await;
    let credential = Credential {
        access_key_id: format!("ASIA{number}"),
        secret_access_key: Secret::from("s"),
        session_token: Secret::from("t"),
        expiration: cx.clock.now() + Seconds(3600),
        arn: None,
    };
    Ok(Minted::now(cx, credential, Skew::default(), String::new()))
}

const WINDOW: Window = Window { length: Seconds(120), min_ttl: Seconds(900) };

#[tokio::test]
async fn those_who_ask_while_a_credential_is_being_made_wait_for_it() {
    let (cx, kept, asked) = (cx(), Arc::new(kept()), Arc::new(AtomicUsize::new(0)));
    let readers: Vec<_> = (0..1000)
        .map(|_| {
            let (cx, kept, asked) = (cx.clone(), Arc::clone(&kept), Arc::clone(&asked));
            tokio::spawn(async move { kept.get(&cx, same(1), WINDOW, || minted(&cx, &asked)).await.unwrap() })
        })
        .collect();
    for reader in readers {
        assert_eq!(reader.await.unwrap().credential.access_key_id, "ASIA0");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn when_the_one_who_makes_it_goes_away_another_takes_over() {
    let (cx, kept, asked) = (cx(), Arc::new(kept()), Arc::new(AtomicUsize::new(0)));
    let first = {
        let (cx, kept) = (cx.clone(), Arc::clone(&kept));
        tokio::spawn(async move { kept.get(&cx, same(1), WINDOW, std::future::pending::<Result<Minted>>).await.map(drop) })
    };
    tokio::task::yield_now().await;
    let second = {
        let (cx, kept, asked) = (cx.clone(), Arc::clone(&kept), Arc::clone(&asked));
        tokio::spawn(async move { kept.get(&cx, same(1), WINDOW, || minted(&cx, &asked)).await.unwrap() })
    };
    tokio::task::yield_now().await;
    first.abort();
    assert_eq!(second.await.unwrap().credential.access_key_id, "ASIA0");
}

#[tokio::test]
async fn no_more_than_so_many_are_kept() {
    let (mut bench, kept, asked) = (bench(), kept(), AtomicUsize::new(0));
    let most = CALLERS.all.places;
    for number in 0..=most {
        let (cx, same) = (of(&mut bench, number), Same { role: number.to_string(), ..same(1) });
        kept.get(&cx, same, WINDOW, || minted(&cx, &asked)).await.unwrap();
    }
    assert_eq!(kept.of_callers.lock().taken().places, most);
    let (cx, last) = (of(&mut bench, most), Same { role: most.to_string(), ..same(1) });
    kept.get(&cx, last, WINDOW, || minted(&cx, &asked)).await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), most + 2, "what finds no place is made each time");
    let now = cx.clock.moment();
    kept.tidy(Moment { elapsed: now.elapsed + WINDOW.length.duration(), ..now });
    assert_eq!(kept.of_callers.lock().taken(), Amount::default());
}

/// Story: each credential had its place until its end at AWS, an hour or twelve, although its window was two minutes. From three builds a second on
/// all places were taken for good, and the three reads of one Packer build got three different keys.
#[tokio::test]
async fn a_place_is_free_again_when_the_window_is_over() {
    let (mut bench, kept, asked) = (bench(), kept(), AtomicUsize::new(0));
    let most = CALLERS.all.places;
    let of_build = |build: usize| Same { caller: Some(u128::try_from(build).unwrap().to_be_bytes()), ..same(1) };
    for build in 0..most {
        let cx = of(&mut bench, build);
        kept.get(&cx, of_build(build), WINDOW, || minted(&cx, &asked)).await.unwrap();
    }
    bench.advance(119);
    let cx = of(&mut bench, 0);
    kept.get(&cx, of_build(0), WINDOW, || minted(&cx, &asked)).await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), most, "handed out again until then");
    bench.advance(1);
    let cx = of(&mut bench, most);
    for _ in 0..3 {
        kept.get(&cx, of_build(most), WINDOW, || minted(&cx, &asked)).await.unwrap();
    }
    assert_eq!(asked.load(Ordering::Relaxed), most + 1);
    assert_eq!(kept.of_callers.lock().taken().places, 1);
}

#[tokio::test]
async fn a_window_is_over_before_the_credential_has_less_than_its_least_time_left() {
    let (bench, kept, asked) = (bench(), kept(), AtomicUsize::new(0));
    let cx = bench.cx("sts/r", daypass_sdk::Operation::Read);
    // An hour, of which half must be left.
    let window = Window { length: Seconds(7200), min_ttl: Seconds(1800) };
    for (seconds, made) in [(0, 1), (1800, 1), (1, 2)] {
        bench.advance(seconds);
        kept.get(&cx, same(1), window, || minted(&cx, &asked)).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), made);
        kept.tidy(cx.clock.moment());
        assert_eq!(kept.of_callers.lock().taken().places, 1);
    }
    let never = Window { length: Seconds(7200), min_ttl: Seconds(3601) };
    for made in [3, 4] {
        kept.get(&cx, same(2), never, || minted(&cx, &asked)).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), made);
    }
}

/// Story: one token with few rights took all places with ten thousand session names, and nobody else's reads belonged together any more.
#[tokio::test]
async fn one_caller_leaves_places_to_others() {
    let (mut bench, kept, asked) = (bench(), kept(), AtomicUsize::new(0));
    let named = |number: usize| Same { input: AssumeRole { session_name: number.to_string(), ..AssumeRole::default() }, ..same(1) };
    let greedy = of(&mut bench, 1);
    for number in 0..CALLERS.all.places {
        kept.get(&greedy, named(number), WINDOW, || minted(&greedy, &asked)).await.unwrap();
    }
    assert_eq!(kept.of_callers.lock().taken().places, CALLERS.of_one.places);
    let other = of(&mut bench, 2);
    for _ in 0..3 {
        kept.get(&other, same(2), WINDOW, || minted(&other, &asked)).await.unwrap();
    }
    assert_eq!(asked.load(Ordering::Relaxed), CALLERS.all.places + 1);
    // His own part is his again when the windows are over.
    bench.advance(120);
    for _ in 0..3 {
        kept.get(&greedy, named(CALLERS.all.places), WINDOW, || minted(&greedy, &asked)).await.unwrap();
    }
    assert_eq!(asked.load(Ordering::Relaxed), CALLERS.all.places + 2);
}

/// Story: the eighth was that of a token, and one job has as many tokens as it logs in for. With eight of them and ttl=900 to 2149 it took all places of the mount,
/// and the three reads of others' Packer builds got three different keys.
#[tokio::test]
async fn one_client_leaves_places_to_others_whatever_tokens_it_has() {
    let (mut bench, kept, asked) = (bench(), kept(), AtomicUsize::new(0));
    for token in 0..8 {
        let greedy = of_client(&mut bench, "entity-1", token);
        for seconds in 0..CALLERS.of_one.places {
            let seconds = Seconds(900 + u64::try_from(seconds).unwrap());
            let caller = Some(greedy.request.caller.key);
            let same = Same { caller, input: AssumeRole { duration: seconds, ..AssumeRole::default() }, ..same(1) };
            kept.get(&greedy, same, WINDOW, || minted(&greedy, &asked)).await.unwrap();
        }
    }
    assert_eq!(kept.of_callers.lock().taken().places, CALLERS.of_one.places);
    let (other, before) = (of_client(&mut bench, "entity-2", 100), asked.load(Ordering::Relaxed));
    for _ in 0..3 {
        kept.get(&other, same(2), WINDOW, || minted(&other, &asked)).await.unwrap();
    }
    assert_eq!(asked.load(Ordering::Relaxed), before + 1);
}

/// Story: with all builds of one AppRole in one share, whoever came when that was used up would have had no place, and three different keys from three reads.
#[tokio::test]
async fn the_oldest_of_a_client_makes_room_for_its_next_one() {
    let (mut bench, kept, asked) = (bench(), kept(), AtomicUsize::new(0));
    let of_build = |build: usize| Same { caller: Some(u128::try_from(build).unwrap().to_be_bytes()), ..same(1) };
    // The windows of the first ones are longer: they close last.
    let long = Window { length: Seconds(1200), ..WINDOW };
    let (share, extra) = (CALLERS.of_one.places, 10);
    for build in 0..share + extra {
        let cx = of_client(&mut bench, "approle", build);
        for _ in 0..3 {
            kept.get(&cx, of_build(build), if build < share { long } else { WINDOW }, || minted(&cx, &asked)).await.unwrap();
        }
        assert_eq!(asked.load(Ordering::Relaxed), build + 1, "three reads, one key");
    }
    let cx = of_client(&mut bench, "approle", 0);
    for (build, made) in [(extra, 0), (share + extra - 1, 0), (extra - 1, 1)] {
        let before = asked.load(Ordering::Relaxed);
        kept.get(&cx, of_build(build), WINDOW, || minted(&cx, &asked)).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed) - before, made, "{build}");
    }
    // One that is too large for any share, or finds no place for others' sake, costs its client nothing.
    let large = Same { input: AssumeRole { policy: Some("p".repeat(CALLERS.of_one.bytes)), ..AssumeRole::default() }, ..same(1) };
    kept.get(&cx, large, WINDOW, || minted(&cx, &asked)).await.unwrap();
    assert_eq!(kept.of_callers.lock().taken().places, share);
}

/// Story: a client whose requests AWS did not answer lost all that was kept for its builds to the next request, which found no place for all that: what is being
/// made cannot make room.
#[tokio::test]
async fn nothing_is_dropped_where_that_makes_no_room() {
    let (mut bench, kept, asked) = (bench(), kept(), AtomicUsize::new(0));
    let cx = of_client(&mut bench, "approle", 0);
    let of_size = |number: usize, bytes: usize| {
        let input = AssumeRole { policy: Some("p".repeat(bytes)), session_name: number.to_string(), ..AssumeRole::default() };
        Same { input, ..same(1) }
    };
    let (small, half) = (of_size(0, 1), CALLERS.of_one.bytes / 2);
    kept.get(&cx, small.clone(), WINDOW, || minted(&cx, &asked)).await.unwrap();
    let mut making = Box::pin(kept.get(&cx, of_size(1, half), WINDOW, std::future::pending::<Result<Minted>>));
    assert!(!std::future::poll_fn(|context| std::task::Poll::Ready(making.as_mut().poll(context).is_ready())).await);
    let before = kept.of_callers.lock().taken();
    for _ in 0..2 {
        kept.get(&cx, of_size(2, half), WINDOW, || minted(&cx, &asked)).await.unwrap();
        assert_eq!(kept.of_callers.lock().taken(), before, "it found no place");
    }
    kept.get(&cx, small, WINDOW, || minted(&cx, &asked)).await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 3, "what was kept is kept still");
    // Once that is made or given up there is room again.
    drop(making);
    for _ in 0..2 {
        kept.get(&cx, of_size(2, half), WINDOW, || minted(&cx, &asked)).await.unwrap();
    }
    assert_eq!(asked.load(Ordering::Relaxed), 4);
}

/// Story: what a role shares lay among the places of the client that came first. When that had used up its share, everybody got new keys between two reads.
#[tokio::test]
async fn what_a_role_shares_is_not_dropped_for_one_client() {
    let (mut bench, kept, asked) = (bench(), kept(), AtomicUsize::new(0));
    let shared = || Same { caller: None, ..same(1) };
    for number in 0..=CALLERS.of_one.places {
        let cx = of_client(&mut bench, "first", number);
        let own = Same { input: AssumeRole { session_name: number.to_string(), ..AssumeRole::default() }, ..same(1) };
        let next = if number == 0 { shared() } else { own };
        kept.get(&cx, next, WINDOW, || minted(&cx, &asked)).await.unwrap();
    }
    let before = asked.load(Ordering::Relaxed);
    let cx = of_client(&mut bench, "first", 0);
    let own = Same { role: "last".to_owned(), ..same(1) };
    kept.get(&cx, own, WINDOW, || minted(&cx, &asked)).await.unwrap();
    let other = of_client(&mut bench, "other", 1);
    kept.get(&other, shared(), WINDOW, || minted(&other, &asked)).await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), before + 1);
}

/// Story: what a role shares had an eighth for all its clients, and one of them that asked for ttl=900 to 2149 took all of it: what the others shared was dropped
/// between two reads.
#[tokio::test]
async fn what_a_client_chooses_of_a_shared_role_takes_its_own_places() {
    let (mut bench, kept, asked) = (bench(), kept(), AtomicUsize::new(0));
    let shared = || Same { caller: None, ..same(1) };
    let other = of_client(&mut bench, "other", 1);
    kept.get(&other, shared(), WINDOW, || minted(&other, &asked)).await.unwrap();
    let greedy = of_client(&mut bench, "greedy", 0);
    for number in 0..=CALLERS.of_one.places {
        let input = AssumeRole { duration: Seconds(900 + u64::try_from(number).unwrap()), ..AssumeRole::default() };
        kept.get(&greedy, Same { is_chosen: true, input, ..shared() }, WINDOW, || minted(&greedy, &asked)).await.unwrap();
    }
    assert_eq!(kept.of_callers.lock().taken().places, CALLERS.of_one.places + 1);
    let before = asked.load(Ordering::Relaxed);
    kept.get(&other, shared(), WINDOW, || minted(&other, &asked)).await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), before);
}

/// Story: sessions of roles on the way lay in the same places as what callers get, for most of an hour each. Where each build has a source identity of its
/// own they took them all.
#[tokio::test]
async fn sessions_of_roles_on_the_way_have_places_of_their_own() {
    let (cx, kept, asked) = (cx(), kept(), AtomicUsize::new(0));
    let hop = |number: usize| {
        let input = AssumeRole { source_identity: Some(number.to_string()), ..AssumeRole::default() };
        Same { caller: None, role: String::new(), input, ..same(1) }
    };
    let most = HOPS.all.places;
    for number in 0..=most {
        kept.get(&cx, hop(number), Window::HOP, || minted(&cx, &asked)).await.unwrap();
    }
    assert_eq!((kept.hops.lock().taken().places, kept.of_callers.lock().taken().places), (most, 0));
    for (number, made) in [(most, most + 1), (1, most + 1), (0, most + 2), (1, most + 3)] {
        kept.get(&cx, hop(number), Window::HOP, || minted(&cx, &asked)).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), made, "the one that was made first made room");
    }
}

#[tokio::test]
async fn what_finds_no_place_is_counted_and_told_now_and_then() {
    let (bench, kept) = (bench(), kept());
    let refuse = || kept.of_callers.lock().refuse(bench.clock.elapsed());
    assert_eq!([refuse(), refuse(), refuse()], [Some(1), None, None]);
    bench.advance(299);
    assert_eq!(refuse(), None);
    bench.advance(1);
    assert_eq!([refuse(), refuse()], [Some(4), None]);
}

/// Story: what was cut off at its request's time limit left an empty place for good. One caller with many session names, while AWS did not answer,
/// took them all, and the three reads of one Packer build got three different keys.
#[tokio::test]
async fn what_was_cut_off_takes_no_place_from_others() {
    let (cx, kept, asked) = (cx(), kept(), AtomicUsize::new(0));
    let cut_off = async |name: &str| {
        let same = Same { role: name.to_owned(), ..same(1) };
        let mut making = Box::pin(kept.get(&cx, same, WINDOW, std::future::pending::<Result<Minted>>));
        std::future::poll_fn(|context| std::task::Poll::Ready(making.as_mut().poll(context).is_ready())).await
    };
    for number in 0..CALLERS.of_one.places {
        assert!(!cut_off(&number.to_string()).await);
    }
    assert_eq!(kept.of_callers.lock().taken(), Amount::default());
    // One is being made still, and one of two who wait for it goes away.
    let waiting = Same { role: "waiting".to_owned(), ..same(1) };
    let mut making = Box::pin(kept.get(&cx, waiting.clone(), WINDOW, std::future::pending::<Result<Minted>>));
    assert!(!std::future::poll_fn(|context| std::task::Poll::Ready(making.as_mut().poll(context).is_ready())).await);
    assert!(!cut_off("waiting").await);
    for _ in 0..3 {
        kept.get(&cx, same(1), WINDOW, || minted(&cx, &asked)).await.unwrap();
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    kept.tidy(cx.clock.moment());
    let places: Vec<Same> = kept.of_callers.lock().keys().cloned().collect();
    assert!(places.len() == 2 && places.contains(&waiting) && places.contains(&same(1)), "{places:?}");
}

/// Story: ten thousand credentials were kept however large their session policies and tags were, a quarter of a gigabyte and more; then names of sessions
/// and source identities were not weighed.
#[tokio::test]
async fn what_is_kept_takes_no_more_than_its_room() {
    let (mut bench, kept, asked) = (bench(), kept(), AtomicUsize::new(0));
    let texts: [fn() -> AssumeRole; 4] = [
        || AssumeRole { policy: Some("p".repeat(MIB)), ..AssumeRole::default() },
        || AssumeRole { session_name: "n".repeat(MIB), ..AssumeRole::default() },
        || AssumeRole { source_identity: Some("i".repeat(MIB)), ..AssumeRole::default() },
        || AssumeRole { external_id: Some("x".repeat(MIB)), role_arn: "a".repeat(MIB), ..AssumeRole::default() },
    ];
    for number in 0..100 {
        let cx = of(&mut bench, number % 10);
        let same = Same { role: number.to_string(), input: texts[number % 4](), ..same(1) };
        kept.get(&cx, same, WINDOW, || minted(&cx, &asked)).await.unwrap();
    }
    let Amount { places, bytes } = kept.of_callers.lock().taken();
    assert!(bytes <= CALLERS.all.bytes && bytes > CALLERS.all.bytes - 2 * MIB - MIB / 2, "{places} of {bytes} bytes");
    for number in 0..100 {
        kept.forget(&number.to_string());
    }
    assert_eq!(kept.of_callers.lock().taken(), Amount::default());
    let cx = of(&mut bench, 0);
    for number in 0..20 {
        let same = Same { role: number.to_string(), input: texts[0](), ..same(1) };
        kept.get(&cx, same, WINDOW, || minted(&cx, &asked)).await.unwrap();
    }
    assert_eq!(kept.of_callers.lock().taken().places, 7, "an eighth for one caller");
}
