//! The user token that Circle is called with: the caller's own, or one of a session created for this request.

use shared::challenge::ChallengeType;
use shared::circle::{Circle, CircleError, CircleIdempotencyKey, CreatedChallenge, EndUser, Session};
use shared::clock::Deadline;
use shared::secrets::UserToken;
use shared::user_id::UserId;

/// A user token in use, which can be replaced once if Circle no longer accepts it.
pub(crate) struct UserSession<'a> {
    circle: &'a Circle,
    user: &'a UserId,
    deadline: Deadline,
    token: UserToken,
    new: Option<Session>,
    is_replaced: bool,
}

impl<'a> UserSession<'a> {
    /// Takes the caller's token, or creates a session if there is none, and reads the user's state at Circle.
    pub(crate) async fn open(
        circle: &'a Circle,
        user: &'a UserId,
        callers_token: Option<UserToken>,
        deadline: Deadline,
    ) -> Result<(Self, EndUser), CircleError> {
        let Some(token) = callers_token else {
            let (session, end_user) =
                tokio::join!(circle.create_session(user, deadline), circle.user(user, deadline));
            let (end_user, session) = (end_user?, session?);
            let token = session.user_token.clone();
            return Ok((
                Self { circle, user, deadline, token, new: Some(session), is_replaced: false },
                end_user,
            ));
        };
        let mut session = Self { circle, user, deadline, token, new: None, is_replaced: false };
        let end_user = match circle.user_of_token(&session.token, deadline).await {
            Err(error) => {
                session.replace(error).await?;
                circle.user_of_token(&session.token, deadline).await?
            }
            Ok(end_user) => end_user,
        };
        Ok((session, end_user))
    }

    /// Creates the challenge at Circle.
    pub(crate) async fn create_challenge(
        &mut self,
        challenge_type: ChallengeType,
        key: &CircleIdempotencyKey,
    ) -> Result<CreatedChallenge, CircleError> {
        let Self { circle, deadline, .. } = *self;
        match circle.create_challenge(challenge_type, &self.token, key, deadline).await {
            Err(error) => {
                self.replace(error).await?;
                circle.create_challenge(challenge_type, &self.token, key, deadline).await
            }
            created => created,
        }
    }

    /// Creates a new session after a call has failed because the token has expired or a newer one has ended it, so that the
    /// call can be retried once. Any other error is returned.
    async fn replace(&mut self, error: CircleError) -> Result<(), CircleError> {
        if !error.is_user_token_ended() || self.is_replaced {
            return Err(error);
        }
        self.is_replaced = true;
        let session = self.circle.create_session(self.user, self.deadline).await?;
        self.token = session.user_token.clone();
        self.new = Some(session);
        Ok(())
    }

    /// The session, if one was created: the caller needs it to run the challenge.
    pub(crate) fn into_new(self) -> Option<Session> {
        self.new
    }
}
