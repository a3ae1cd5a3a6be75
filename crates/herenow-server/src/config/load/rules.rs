//! What values must be together, and secrets out of files.

use super::Loader;
use crate::config::keys::keys;
use crate::config::kind::Raw;
use crate::config::units::show_size;
use crate::config::{
    ConfigError, Conflict, Engine, Origin, ServerConfig, api, cluster, fetch, jwt, supabase, tls,
    webhook,
};

impl Loader {
    /// Rules between values; each alone is within its limits already.
    pub(super) fn check_together(&mut self) {
        let socket = &self.config.socket;
        if socket.fold_queue_bytes > socket.max_queue_bytes {
            self.errors.push(ConfigError::Conflict(Box::new(Conflict {
                origin: self.origin("socket.fold_queue_bytes"),
                key: "socket.fold_queue_bytes".to_owned(),
                value: show_size(socket.fold_queue_bytes),
                other: "socket.max_queue_bytes".to_owned(),
                other_value: show_size(socket.max_queue_bytes),
                other_origin: self.origin("socket.max_queue_bytes"),
                rule: "the first must not be above the second, or folding begins too late",
            })));
        }
        self.check_cluster();
        let origins = &self.origins;
        let origin = |key: &str| origins.get(key).cloned().unwrap_or(Origin::Default);
        self.errors.extend(api::check(&mut self.config, &origin));
        self.errors.extend(fetch::check(&self.config, &origin));
        self.errors.extend(jwt::check(&self.config, &origin));
        self.errors.extend(webhook::check(&self.config, &origin));
        self.errors
            .extend(webhook::check_targets(&mut self.config, &origin));
    }

    fn check_cluster(&mut self) {
        let origins = &self.origins;
        let origin = |key: &str| origins.get(key).cloned().unwrap_or(Origin::Default);
        let is_set = |key: &str| origins.contains_key(key);
        let show = |config: &ServerConfig, key: &str| {
            let key = keys().find(|known| known.name == key);
            key.and_then(|key| key.show_default(config))
                .unwrap_or_else(|| "set".to_owned())
        };
        let config = &self.config;
        let conflicts = keys().filter(|key| is_set(key.name)).filter_map(|key| {
            let cluster = cluster::conflict(config, key.name, &is_set);
            let jwt = || jwt::conflict(config, key.name, &is_set);
            let fetch = || fetch::conflict(config, key.name, &is_set);
            let supabase = || supabase::conflict(config, key.name);
            cluster.or_else(jwt).or_else(fetch).or_else(supabase)
        });
        for (key, other, rule) in conflicts {
            self.errors.push(ConfigError::Conflict(Box::new(Conflict {
                origin: origin(key),
                key: key.to_owned(),
                value: show(config, key),
                other: other.to_owned(),
                other_value: show(config, other),
                other_origin: origin(other),
                rule,
            })));
        }
        let missing = cluster::missing(config, &is_set).into_iter();
        let missing = missing.chain(tls::missing(&is_set));
        self.errors
            .extend(missing.map(|(because, key)| ConfigError::Missing {
                origin: origin(because),
                key: key.to_owned(),
            }));
        if let Some(engine) = config.cluster.engine
            && !engine.is_built()
        {
            self.errors.push(ConfigError::EngineNotBuilt {
                origin: origin("cluster.engine"),
                engine,
                built: Engine::built(),
            });
        }
        let (cluster, jwt) = (&config.cluster.secret_file, &config.jwt.secret_file);
        let webhook = config.webhook.secret_file.clone();
        let (url, token) = (&config.fetch.database_url_file, &config.fetch.token_file);
        let files = [
            ("cluster.secret_file", "cluster.secret", cluster.clone()),
            ("jwt.secret_file", "jwt.secret", jwt.clone()),
            ("fetch.database_url_file", "fetch.database_url", url.clone()),
            ("fetch.token_file", "fetch.token", token.clone()),
            ("webhook.secret_file", "webhook.secret", webhook),
        ];
        for (file_key, key, path) in files {
            if let Some(path) = path {
                self.read_secret(file_key, key, &path);
            }
        }
    }

    /// Reads a secret from its file; line breaks at the end are not part of it.
    fn read_secret(&mut self, file_key: &'static str, key: &'static str, path: &str) {
        let origin = self.origin(file_key);
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let text = text.trim_end_matches(['\r', '\n']);
                if let Some(key) = keys().find(|known| known.name == key) {
                    self.read_key(key, origin, Raw::Text(text));
                }
            }
            Err(cause) => self.errors.push(ConfigError::SecretFile {
                origin,
                key: file_key.to_owned(),
                path: path.to_owned(),
                cause,
            }),
        }
    }
}
