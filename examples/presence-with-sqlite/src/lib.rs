//! Presences that carry names from a database, read with one query per batch of keys.
//!
//! A client joins with its user id only. What the others see of it, its name and city, comes from
//! the table `users` of an SQLite database, by way of [`Fetch`]: whoever joins together is looked
//! up together, so that fifty people who come at once are a handful of queries and not fifty.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use herenow::{Channel, Fetch, FetchError, Joined, Key, Params, Presence, Refused, Socket, Topic};
use serde::Serialize;
use serde_json::json;
use sqlx::SqlitePool;

/// The users of an application, in its database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Users {
    db: SqlitePool,
    n_queries: Arc<AtomicUsize>,
}

/// What is shown of a user, beside the metas of its presences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct User {
    #[serde(skip)]
    id: String,
    /// What the user is called.
    pub name: String,
    /// Where the user lives.
    pub city: String,
}

impl Users {
    /// Fills a database in memory with `n_users` users, `u1` to `u<n>`.
    ///
    /// # Errors
    ///
    /// What the database says.
    pub async fn in_memory(n_users: u32) -> sqlx::Result<Self> {
        // Each connection to ":memory:" is a database of its own, so there is one connection.
        let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1);
        let db = pool.connect("sqlite::memory:").await?;
        sqlx::query("create table users (id text primary key, name text, city text)")
            .execute(&db)
            .await?;
        for n in 1..=n_users {
            sqlx::query("insert into users values (?, ?, ?)")
                .bind(format!("u{n}"))
                .bind(format!("User {n}"))
                .bind(["Lima", "Oslo", "Pune"][n as usize % 3])
                .execute(&db)
                .await?;
        }
        Ok(Self {
            db,
            n_queries: Arc::default(),
        })
    }

    /// How many queries have been made for presences.
    pub fn n_queries(&self) -> usize {
        self.n_queries.load(Ordering::Relaxed)
    }
}

impl Fetch for Users {
    type Fields = User;

    async fn fetch(&self, topic: &Topic, keys: &[Key]) -> Result<HashMap<Key, User>, FetchError> {
        let ids = json!(keys.iter().map(Key::as_str).collect::<Vec<_>>()).to_string();
        let users: Vec<User> = sqlx::query_as(
            "select id, name, city from users where id in (select value from json_each(?))",
        )
        .bind(ids)
        .fetch_all(&self.db)
        .await?;
        let query = self.n_queries.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::info!(query, %topic, n_keys = keys.len(), n_users = users.len(), "users read");
        let mut by_id: HashMap<String, User> = users
            .into_iter()
            .map(|user| (user.id.clone(), user))
            .collect();
        Ok(keys
            .iter()
            .filter_map(|key| Some((key.clone(), by_id.remove(key.as_str())?)))
            .collect())
    }
}

/// A room whose members see one another's names.
#[derive(Debug)]
pub struct Room {
    /// Who is here; made with [`Users`] as its fetch.
    pub presence: Presence,
}

impl Channel for Room {
    async fn join(&mut self, socket: &mut Socket, params: Params) -> Result<Joined, Refused> {
        let user: String = params.required("user_id")?;
        self.presence
            .track(socket, &user, json!({ "device": "browser" }))
            .await?;
        socket.push("presence_state", self.presence.list(socket.topic()).await)?;
        Ok(Joined::empty())
    }
}
