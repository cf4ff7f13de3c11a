//! Payments under way and who listens to them: each payment's last durable state, by hash.

use super::payment::{Payment, Status};
use fulmen_channel::payment::PaymentHash;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// News of payments under way.
#[derive(Default)]
pub struct News(Mutex<BTreeMap<PaymentHash, watch::Sender<Payment>>>);

impl News {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PaymentHash, watch::Sender<Payment>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many payments are under way.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Whether a payment with this hash is under way, or its end is not durable yet. Begun anew
    /// before that, its rows could reach the disk before those of the one that failed.
    pub fn is_under_way(&self, hash: &PaymentHash) -> bool {
        self.lock().contains_key(hash)
    }

    /// From now on news of `payment` go to whoever listens; who listened to it already, still does.
    pub fn follow(&self, payment: Payment) -> watch::Receiver<Payment> {
        let mut payments = self.lock();
        let hash = payment.payment_hash;
        let same =
            |news: &&watch::Sender<Payment>| news.borrow().payment_index == payment.payment_index;
        if let Some(news) = payments.get(&hash).filter(same) {
            return news.subscribe();
        }
        let (sender, receiver) = watch::channel(payment);
        payments.insert(hash, sender);
        receiver
    }

    /// The payment with this hash: followed if it is under way, otherwise as `stored`.
    ///
    /// # Errors
    /// Those of `stored`.
    pub fn track<E>(
        &self,
        hash: &PaymentHash,
        stored: impl FnOnce() -> Result<Option<Payment>, E>,
    ) -> Result<Option<watch::Receiver<Payment>>, E> {
        let mut payments = self.lock();
        if let Some(news) = payments.get(hash) {
            return Ok(Some(news.subscribe()));
        }
        let Some(payment) = stored()? else { return Ok(None) };
        let under_way = payment.status == Status::InFlight;
        let (sender, receiver) = watch::channel(payment);
        if under_way {
            // Begun, but its beginning was not told yet: what follows will be.
            payments.insert(*hash, sender);
        }
        Ok(Some(receiver))
    }

    /// A payment changed, and that is durable.
    pub fn tell(&self, payment: Payment) {
        let mut payments = self.lock();
        let hash = payment.payment_hash;
        let Some(news) = payments.get(&hash) else { return };
        // A payment that failed may be begun again before the last news of it came here: nobody
        // must take the second for failed.
        if news.borrow().payment_index != payment.payment_index {
            return;
        }
        let over = payment.status != Status::InFlight && !payment.has_attempt_in_flight();
        news.send_replace(payment);
        if over {
            payments.remove(&hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::payment::{FailureReason, Terms};
    use super::*;
    use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
    use fulmen_channel::amount::Msat;

    fn payment(payment_index: u64, status: Status) -> Payment {
        let key = SecretKey::from_slice(&[1; 32]).unwrap();
        let terms = Terms {
            destination: PublicKey::from_secret_key(&Secp256k1::signing_only(), &key),
            amount: Msat::new(1_000),
            payment_secret: [2; 32],
            metadata: None,
            final_cltv_delta: 80,
            fee_limit: Msat::ZERO,
            cltv_limit: 2_016,
            deadline_ns: 0,
            outgoing: Vec::new(),
            records: BTreeMap::new(),
        };
        Payment {
            payment_index,
            payment_hash: PaymentHash([3; 32]),
            preimage: None,
            terms,
            creation_time_ns: 0,
            payment_request: String::new(),
            status,
            failure_reason: (status == Status::Failed).then_some(FailureReason::NoRoute),
            attempts: Vec::new(),
        }
    }

    #[test]
    fn late_news_of_a_failed_payment_do_not_fail_the_one_begun_after_it() {
        let news = News::default();
        let first = news.follow(payment(1, Status::InFlight));
        let second = news.follow(payment(2, Status::InFlight));
        news.tell(payment(1, Status::Failed));
        assert_eq!(second.borrow().status, Status::InFlight);
        assert!(news.is_under_way(&PaymentHash([3; 32])));
        assert!(first.has_changed().is_err(), "nobody tells of the first any more");
        news.tell(payment(2, Status::Succeeded));
        assert_eq!(second.borrow().status, Status::Succeeded);
        assert_eq!(news.count(), 0, "what is over is not kept");
        assert!(!news.is_under_way(&PaymentHash([3; 32])));
    }

    #[test]
    fn a_payment_tracked_before_its_beginning_is_told_is_followed_to_its_end() {
        let news = News::default();
        let stored = |status| move || Ok::<_, ()>(Some(payment(1, status)));
        let early = news.track(&PaymentHash([3; 32]), stored(Status::InFlight)).unwrap().unwrap();
        let payer = news.follow(payment(1, Status::InFlight));
        news.tell(payment(1, Status::Succeeded));
        assert_eq!(early.borrow().status, Status::Succeeded);
        assert_eq!(payer.borrow().status, Status::Succeeded);
        let late = news.track(&PaymentHash([3; 32]), stored(Status::Succeeded)).unwrap().unwrap();
        assert_eq!((late.borrow().status, news.count()), (Status::Succeeded, 0));
        assert!(news.track(&PaymentHash([3; 32]), || Ok::<_, ()>(None)).unwrap().is_none());
    }
}
