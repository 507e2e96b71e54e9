//! Whether an answer reached its client: for the few answers whose content exists nowhere else.

use tokio::sync::watch;

/// Goes with an answer. Whoever sends it says so; dropped without a word, the answer was not sent.
#[derive(Debug)]
pub struct Receipt(watch::Sender<Fate>);

/// Tells whoever made the answer what became of it. Clones tell the same.
#[derive(Debug, Clone)]
pub struct Delivery(watch::Receiver<Fate>);

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was taken in by the client's side.
    Delivered,
    /// Nobody has it, as far as is known.
    Lost,
    /// It is on its way.
    OnItsWay,
}

impl Receipt {
    /// A receipt, and who waits for it.
    ///
    /// ```
    /// use daypass_base::{Fate, Receipt};
    /// let (receipt, delivery) = Receipt::pair();
    /// assert_eq!(delivery.fate(), Fate::OnItsWay);
    /// receipt.delivered();
    /// assert_eq!(delivery.fate(), Fate::Delivered);
    /// let (receipt, delivery) = Receipt::pair();
    /// drop(receipt);
    /// assert_eq!(delivery.fate(), Fate::Lost);
    /// ```
    #[must_use]
    pub fn pair() -> (Self, Delivery) {
        let (sender, receiver) = watch::channel(Fate::OnItsWay);
        (Self(sender), Delivery(receiver))
    }

    /// The client's side has the answer.
    pub fn delivered(self) {
        self.0.send_replace(Fate::Delivered);
    }
}

impl Delivery {
    /// What is known now.
    #[must_use]
    pub fn fate(&self) -> Fate {
        // In this order: it may speak and go between the two looks.
        let gone = self.0.has_changed().is_err();
        match *self.0.borrow() {
            Fate::OnItsWay if gone => Fate::Lost,
            fate => fate,
        }
    }

    /// Waits until it is known: never [`Fate::OnItsWay`].
    pub async fn known(mut self) -> Fate {
        match self.0.wait_for(|fate| *fate != Fate::OnItsWay).await {
            Ok(fate) => *fate,
            Err(_dropped) => Fate::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_is_delivered_or_lost_and_both_are_waited_for() {
        let (receipt, delivery) = Receipt::pair();
        let waits = tokio::spawn(delivery.clone().known());
        receipt.delivered();
        assert_eq!((waits.await.unwrap(), delivery.known().await), (Fate::Delivered, Fate::Delivered));
        let (receipt, delivery) = Receipt::pair();
        let waits = tokio::spawn(delivery.known());
        drop(receipt);
        assert_eq!(waits.await.unwrap(), Fate::Lost);
    }
}
