//! With which user token Circle is called: the caller's own, or one made on the way.

use shared::challenge::ChallengeType;
use shared::circle::{Circle, CircleError, CreatedChallenge, EndUser, Session};
use shared::clock::Deadline;
use shared::identity::UserId;
use shared::problem::Problem;
use shared::secrets::UserToken;
use uuid::Uuid;

/// A user token in use, and how to replace it once.
pub(crate) struct UserSession<'a> {
    circle: &'a Circle,
    user: &'a UserId,
    deadline: Deadline,
    token: UserToken,
    new: Option<Session>,
}

impl<'a> UserSession<'a> {
    /// Takes the caller's token, or makes a session where there is none, and finds out how the user stands
    /// at Circle, while it is found out whether the request is `allowed`. A refusal of that is the answer at
    /// once and whatever else fails.
    ///
    /// A session is made for an allowed request only, because a new user token might end an older one in
    /// use (Circle does not document it). The user's state is asked for without waiting for anything: a
    /// question changes nothing, and it takes the longest.
    pub(crate) async fn open(
        circle: &'a Circle,
        user: &'a UserId,
        callers: Option<UserToken>,
        allowed: impl Future<Output = Result<(), Problem>>,
        deadline: Deadline,
    ) -> Result<(Self, EndUser), Problem> {
        let Some(token) = callers else {
            let session = async {
                allowed.await?;
                Ok::<_, Problem>(circle.create_session(user, deadline).await)
            };
            let end_user = async { Ok(circle.user(user, deadline).await) };
            let (session, end_user) = tokio::try_join!(session, end_user)?;
            let (end_user, session) = (end_user?, session?);
            let token = session.user_token.clone();
            return Ok((Self { circle, user, deadline, token, new: Some(session) }, end_user));
        };
        let mut session = Self { circle, user, deadline, token, new: None };
        let end_user = async { Ok(circle.user_of_token(&session.token, deadline).await) };
        let ((), end_user) = tokio::try_join!(allowed, end_user)?;
        let end_user = match end_user {
            Err(error) => {
                session.replace_expired(error).await?;
                circle.user_of_token(&session.token, deadline).await?
            }
            Ok(end_user) => end_user,
        };
        Ok((session, end_user))
    }

    /// Makes the challenge at Circle.
    pub(crate) async fn create_challenge(
        &mut self,
        challenge_type: ChallengeType,
        key: Uuid,
    ) -> Result<CreatedChallenge, CircleError> {
        let Self { circle, deadline, .. } = *self;
        match circle.create_challenge(challenge_type, &self.token, key, deadline).await {
            Err(error) => {
                self.replace_expired(error).await?;
                circle.create_challenge(challenge_type, &self.token, key, deadline).await
            }
            created => created,
        }
    }

    /// After a failed call: makes a new session if what failed was the caller's expired token, so that the
    /// call can be repeated, once. Any other error stays one.
    async fn replace_expired(&mut self, error: CircleError) -> Result<(), CircleError> {
        if !error.is_user_token_expired() || self.new.is_some() {
            return Err(error);
        }
        let session = self.circle.create_session(self.user, self.deadline).await?;
        self.token = session.user_token.clone();
        self.new = Some(session);
        Ok(())
    }

    /// The session, if one was made: the caller needs it to run the challenge.
    pub(crate) fn into_new(self) -> Option<Session> {
        self.new
    }
}
