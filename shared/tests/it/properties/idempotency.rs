use proptest::prelude::*;
use shared::challenge::ChallengeType;
use shared::circle::{CircleIdempotencyKey, IdempotencyKey};
use uuid::{Uuid, Variant};

use super::check;

type Request = (String, ChallengeType, u128);

/// Requests that are often almost the same.
fn request() -> impl Strategy<Value = Request> {
    let user = "[aAbé\u{65}\u{301}|=]{5,7}|alice(CHANGE_PIN|RESTORE_PIN)?";
    (user, prop_oneof![Just(ChallengeType::ChangePin), Just(ChallengeType::RestorePin)], 0..3u128)
}

fn derive((user, challenge_type, key): &Request) -> Uuid {
    let key: IdempotencyKey = Uuid::from_u128(*key).to_string().parse().unwrap();
    *CircleIdempotencyKey::derive(&user.parse().unwrap(), *challenge_type, key).as_uuid()
}

/// A request that differs from the other in one part at most.
fn neighbour() -> impl Strategy<Value = (Request, Request)> {
    (request(), request(), 0..6).prop_map(|(first, other, part)| {
        let (user, challenge_type, key) = first.clone();
        let second = match part {
            0 => first.clone(),
            1 => (other.0, challenge_type, key),
            2 => (user, other.1, key),
            3 => (user, challenge_type, other.2),
            4 => (user.to_uppercase(), challenge_type, key),
            _ => (format!("{user}{}", challenge_type.as_str()), challenge_type, key),
        };
        (first, second)
    })
}

#[test]
fn derived_keys_are_equal_exactly_if_user_type_and_key_are() {
    check(2_000, &neighbour(), |(first, second)| {
        let (one, other) = (derive(&first), derive(&second));
        prop_assert_eq!(one == other, first == second);
        prop_assert_eq!((one.get_version_num(), one.get_variant()), (4, Variant::RFC4122));
        prop_assert_ne!(one, Uuid::from_u128(first.2), "the caller's key does not reach Circle");
        Ok(())
    });
}
