//! Company in a transaction.
//!
//! A transaction with four rows costs little more than one with a single row: most of it is the leaves of trees that
//! it touches, and the wait for the disk. Clients that wait for their answers come again at once when they have them. So
//! whoever stores waits a moment for those who were there just now, much as PostgreSQL does by `commit_delay` and
//! `commit_siblings`; otherwise those who come while the one before is being stored go together, and it goes alone again.
//! A client that is alone is never kept waiting.

use std::time::Duration;
use tokio::sync::mpsc::Receiver;

/// The longest wait, by the grain of tokio's clock. It is in vain when somebody comes no more, and then once.
const PATIENCE: Duration = Duration::from_millis(1);

/// Who is to be expected.
#[derive(Debug, Default)]
pub(crate) struct Company {
    expected: usize,
}

impl Company {
    /// Takes what comes into `group`, if somebody in it waits for an answer: until all who are expected are there, or it is
    /// `most`, or nobody came for a while.
    pub(crate) async fn gather<T>(
        &self,
        incoming: &mut Receiver<T>,
        group: &mut Vec<T>,
        most: usize,
        waits: impl Fn(&T) -> bool,
    ) {
        self.gather_until(incoming, group, most, waits, async { tokio::time::sleep(PATIENCE).await }).await;
    }

    async fn gather_until<T>(
        &self,
        incoming: &mut Receiver<T>,
        group: &mut Vec<T>,
        most: usize,
        waits: impl Fn(&T) -> bool,
        patience: impl Future<Output = ()>,
    ) {
        let mut there = group.iter().filter(|one| waits(one)).count();
        if there == 0 {
            return;
        }
        tokio::pin!(patience);
        while there < self.expected && group.len() < most {
            let known = group.len();
            tokio::select! {
                biased;
                came = incoming.recv_many(group, most - known) => if came == 0 { return },
                () = &mut patience => return,
            }
            there += group[known..].iter().filter(|one| waits(one)).count();
        }
    }

    /// A group of so many is stored, but not answered yet, and so many wait already.
    pub(crate) fn stored(&mut self, group: usize, waiting: usize) {
        self.expected = group + waiting;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use tokio::sync::mpsc;

    /// What becomes of a group that may have five when these come; even ones wait for an answer.
    async fn gathered(
        company: &Company,
        group: &[i32],
        come: &[i32],
        patience: impl Future<Output = ()>,
    ) -> Vec<i32> {
        let (send, mut incoming) = mpsc::channel(8);
        for number in come {
            send.try_send(*number).unwrap();
        }
        let mut group = group.to_vec();
        company.gather_until(&mut incoming, &mut group, 5, |number| number % 2 == 0, patience).await;
        drop(send);
        group
    }

    fn after(group: usize, waiting: usize) -> Company {
        let mut company = Company::default();
        company.stored(group, waiting);
        company
    }

    #[tokio::test]
    async fn who_was_there_just_now_is_waited_for() {
        let company = after(1, 2);
        let (send, mut incoming) = mpsc::channel(8);
        let mut group = vec![2];
        let others = async {
            for number in [4, 5, 6] {
                send.send(number).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let all = company.gather_until(&mut incoming, &mut group, 8, |number| number % 2 == 0, pending());
        tokio::join!(all, others);
        assert_eq!(group, [2, 4, 5, 6], "what needs no answer comes along and does not count");
        assert_eq!(gathered(&company, &[2], &[4], ready(())).await, [2, 4], "not for ever");
    }

    #[tokio::test]
    async fn nobody_waits_who_is_alone_or_needs_no_answer() {
        let alone = after(1, 0);
        assert_eq!(gathered(&alone, &[2], &[4], pending()).await, [2]);
        let company = after(3, 0);
        assert_eq!(gathered(&company, &[1, 3], &[4], pending()).await, [1, 3]);
        assert_eq!(gathered(&Company::default(), &[2], &[], pending()).await, [2]);
    }

    #[tokio::test]
    async fn a_full_group_and_the_end_of_all_wait_for_nobody() {
        let company = after(6, 6);
        assert_eq!(gathered(&company, &[2, 4], &[6, 8, 10, 12], pending()).await, [2, 4, 6, 8, 10]);
        let (send, mut incoming) = mpsc::channel::<i32>(8);
        drop(send);
        let mut group = vec![2];
        company.gather_until(&mut incoming, &mut group, 8, |_| true, pending()).await;
        assert_eq!(group, [2]);
    }
}
