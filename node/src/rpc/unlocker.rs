//! `lnrpc.WalletUnlocker`: from the API's words to [`Unlocker`]'s.

use super::calls::channel_backups::{multi_in, singles_in};
use super::calls::failed;
use crate::unlock::{Init, Sealed, Source, Unlocker};
use fulmen_proto::lnrpc;
use tonic::{async_trait, Request, Response, Status};

/// The service.
pub struct WalletUnlocker {
    /// Who does it.
    pub unlocker: Unlocker,
}

type Answer<T> = Result<Response<T>, Status>;

#[async_trait]
impl lnrpc::wallet_unlocker_server::WalletUnlocker for WalletUnlocker {
    async fn gen_seed(
        &self,
        request: Request<lnrpc::GenSeedRequest>,
    ) -> Answer<lnrpc::GenSeedResponse> {
        let request = request.into_inner();
        no_passphrase(&request.aezeed_passphrase)?;
        let seed = self.unlocker.gen_seed(&request.seed_entropy).map_err(failed)?;
        let words = seed.words().into_iter().map(str::to_owned).collect();
        let enciphered_seed = seed.word_bytes();
        let answer = lnrpc::GenSeedResponse { cipher_seed_mnemonic: words, enciphered_seed };
        Ok(Response::new(answer))
    }

    async fn init_wallet(
        &self,
        request: Request<lnrpc::InitWalletRequest>,
    ) -> Answer<lnrpc::InitWalletResponse> {
        let request = request.into_inner();
        no_passphrase(&request.aezeed_passphrase)?;
        if request.watch_only.is_some() {
            return Err(failed("watch-only wallets are not built into fulmen yet"));
        }
        let birthday = request.extended_master_key_birthday_timestamp;
        let source = match (request.extended_master_key, request.cipher_seed_mnemonic) {
            (key, words) if key.is_empty() => Source::Words(words),
            (key, words) if words.is_empty() => Source::MasterKey(key, birthday),
            _ => return Err(failed("give either the words or the extended master key, not both")),
        };
        let made = self.unlocker.init(Init {
            password: request.wallet_password,
            source,
            recovery_window: request.recovery_window,
            stateless: request.stateless_init,
            root_key: request.macaroon_root_key,
            backups: backups(request.channel_backups),
        });
        let admin_macaroon = made.await.map_err(failed)?;
        Ok(Response::new(lnrpc::InitWalletResponse { admin_macaroon }))
    }

    async fn unlock_wallet(
        &self,
        request: Request<lnrpc::UnlockWalletRequest>,
    ) -> Answer<lnrpc::UnlockWalletResponse> {
        let request = request.into_inner();
        let (window, stateless) = (request.recovery_window, request.stateless_init);
        let backups = backups(request.channel_backups);
        let opened = self.unlocker.unlock(request.wallet_password, window, stateless, &backups);
        opened.await.map_err(failed)?;
        Ok(Response::new(lnrpc::UnlockWalletResponse {}))
    }

    async fn change_password(
        &self,
        request: Request<lnrpc::ChangePasswordRequest>,
    ) -> Answer<lnrpc::ChangePasswordResponse> {
        let request = request.into_inner();
        let (old, new) = (request.current_password, request.new_password);
        let (stateless, new_key) = (request.stateless_init, request.new_macaroon_root_key);
        let changed = self.unlocker.change_password(old, new, stateless, new_key);
        let admin_macaroon = changed.await.map_err(failed)?;
        Ok(Response::new(lnrpc::ChangePasswordResponse { admin_macaroon }))
    }
}

fn no_passphrase(passphrase: &[u8]) -> Result<(), Status> {
    match passphrase {
        [] => Ok(()),
        _ => Err(failed(
            "fulmen's seeds are 24 words of BIP 39 and have no passphrase: leave \
             aezeed_passphrase empty",
        )),
    }
}

fn backups(given: Option<lnrpc::ChanBackupSnapshot>) -> Sealed {
    let given = given.unwrap_or_default();
    let singles = singles_in(&given).map(<[u8]>::to_vec).collect();
    Sealed { singles, multi: multi_in(&given).map(<[u8]>::to_vec) }
}
