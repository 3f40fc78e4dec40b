//! What the test of an attempt asks the server, from its asking to its answer, whatever the connection does: each
//! connection asks again what has no answer yet.

use assay_proto::worker::{Question, Reply};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// One attempt's questions; its clones are the same.
#[derive(Clone, Default)]
pub struct Questions(Arc<Inner>);

#[derive(Default)]
struct Inner {
    open: Mutex<Open>,
    /// The number of the newest question.
    newest: watch::Sender<u64>,
}

#[derive(Default)]
struct Open {
    last: u64,
    /// Those without an answer.
    questions: BTreeMap<u64, (Question, oneshot::Sender<Reply>)>,
}

/// A question that waits. Dropping it without an answer tells the server that nobody waits any more.
struct Asked {
    questions: Questions,
    number: u64,
    reply: oneshot::Receiver<Reply>,
    over: bool,
}

impl Questions {
    /// Asks and waits for the answer, at most for `limit`; `None` when that is over and nothing has come of it.
    pub async fn ask(&self, question: Question, limit: Option<Duration>) -> Option<Reply> {
        let mut asked = self.put(question);
        let Some(limit) = limit else { return asked.answer().await };
        match tokio::time::timeout(limit, asked.answer()).await {
            Ok(reply) => reply,
            Err(_) => asked.give_up().await,
        }
    }

    /// The questions after `number` that have no answer.
    pub(crate) fn after(&self, number: u64) -> Vec<(u64, Question)> {
        let open = self.open();
        open.questions
            .range(number + 1..)
            .map(|(number, (question, _))| (*number, question.clone()))
            .collect()
    }

    /// Changes with every question.
    pub(crate) fn newest(&self) -> watch::Receiver<u64> {
        self.0.newest.subscribe()
    }

    /// The server answers.
    pub(crate) fn answered(&self, number: u64, reply: Reply) {
        let question = self.open().questions.remove(&number);
        if let Some((_, waits)) = question {
            // Nobody may wait for it any more.
            let _ = waits.send(reply);
        }
    }

    fn put(&self, question: Question) -> Asked {
        let (waits, reply) = oneshot::channel();
        let mut open = self.open();
        open.last += 1;
        let number = open.last;
        open.questions.insert(number, (question, waits));
        drop(open);
        self.0.newest.send_replace(number);
        Asked { questions: self.clone(), number, reply, over: false }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked {
    async fn answer(&mut self) -> Option<Reply> {
        let reply = (&mut self.reply).await.ok();
        self.over = true;
        reply
    }

    /// The answer may have been on its way: then it counts.
    async fn give_up(mut self) -> Option<Reply> {
        let questions = self.questions.clone();
        questions.open().questions.remove(&self.number);
        self.over = true;
        let mut last = questions.put(Question::GiveUp { waits_for: self.number });
        last.answer().await.filter(|reply| *reply != Reply::No)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let given_up = self.questions.open().questions.remove(&self.number);
        if given_up.is_some_and(|(question, _)| !matches!(question, Question::GiveUp { .. })) {
            let mut last = self.questions.put(Question::GiveUp { waits_for: self.number });
            last.over = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock() -> Question {
        Question::Children {}
    }

    #[tokio::test]
    async fn an_answer_that_crosses_the_end_of_the_wait_counts() {
        let questions = Questions::default();
        let (server, mut newest) = (questions.clone(), questions.newest());
        let limit = Some(Duration::ZERO);
        for (late, result) in [(Reply::No, None), (Reply::Yes, Some(Reply::Yes))] {
            let answering = async {
                while newest.changed().await.is_ok() {
                    let open = server.after(0);
                    if let [(number, Question::GiveUp { waits_for })] = open[..] {
                        assert_eq!(waits_for, number - 1);
                        server.answered(number, late.clone());
                        return;
                    }
                }
            };
            let (answer, ()) = tokio::join!(questions.ask(lock(), limit), answering);
            assert_eq!(answer, result);
        }
    }

    #[tokio::test]
    async fn what_has_no_answer_is_asked_again_and_who_goes_away_gives_up() {
        let questions = Questions::default();
        let waiting = questions.ask(lock(), None);
        {
            tokio::pin!(waiting);
            assert!(futures_util::poll!(&mut waiting).is_pending());
            assert_eq!(questions.after(0), [(1, lock())]);
            assert_eq!(questions.after(1), []);
            questions.answered(7, Reply::Yes);
            questions.answered(1, Reply::Yes);
            assert_eq!(waiting.await, Some(Reply::Yes));
        }
        {
            let gone = questions.ask(lock(), None);
            tokio::pin!(gone);
            assert!(futures_util::poll!(&mut gone).is_pending());
        }
        assert_eq!(questions.after(0), [(3, Question::GiveUp { waits_for: 2 })]);
        questions.answered(3, Reply::No);
        assert_eq!(questions.after(0), []);
    }
}
