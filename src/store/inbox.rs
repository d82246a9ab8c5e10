//! What channels have acknowledged and not yet worked on: kept on the disk, so that a crash in between loses no answer. Knows
//! nothing of what is in it, and is no part of the record.

use rusqlite::params;

use super::{Store, StoreError};

impl Store {
    /// Keeps a delivery for a channel. On the disk when it returns; keeping it again changes nothing.
    ///
    /// # Cancellation safety
    /// It may be kept although nobody hears of it.
    ///
    /// # Errors
    /// It is not known to be kept.
    pub async fn keep(&self, channel: &str, delivery: &str, what: String) -> Result<(), StoreError> {
        let (channel, delivery) = (channel.to_owned(), delivery.to_owned());
        self.ask(move |connection| {
            let sql = "INSERT INTO inbox (channel, delivery, what) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
            let changed =
                connection.prepare_cached(sql).and_then(|mut keep| keep.execute(params![channel, delivery, what]));
            changed.map(drop).map_err(|error| StoreError::Failing(error.to_string()))
        })
        .await
    }

    /// Forgets a delivery that was worked on.
    ///
    /// # Errors
    /// It may come again after a restart.
    pub async fn forget(&self, channel: &str, delivery: &str) -> Result<(), StoreError> {
        let (channel, delivery) = (channel.to_owned(), delivery.to_owned());
        self.ask(move |connection| {
            let sql = "DELETE FROM inbox WHERE channel = ?1 AND delivery = ?2";
            let changed =
                connection.prepare_cached(sql).and_then(|mut forget| forget.execute(params![channel, delivery]));
            changed.map(drop).map_err(|error| StoreError::Failing(error.to_string()))
        })
        .await
    }

    /// Deliveries of a channel that were kept and not forgotten: their names, and what they are.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn kept(&self, channel: &str) -> Result<Vec<(String, String)>, StoreError> {
        let channel = channel.to_owned();
        self.ask(move |connection| {
            let unreadable = |error: rusqlite::Error| StoreError::Unreadable(error.to_string());
            let sql = "SELECT delivery, what FROM inbox WHERE channel = ?1 ORDER BY delivery";
            let mut statement = connection.prepare_cached(sql).map_err(unreadable)?;
            let rows = statement.query_map([channel], |row| Ok((row.get(0)?, row.get(1)?))).map_err(unreadable)?;
            rows.collect::<Result<_, _>>().map_err(unreadable)
        })
        .await
    }
}
