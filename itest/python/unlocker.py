"""Makes or opens a wallet with a Python client of lnd, against a daemon without an open one.

    unlocker.py makes|opens|changes RPC CERT

Each step is of a start of its own. Prints a line for each call.
"""

import sys

from lndgrpc import LNDClient

try:
    from lndgrpc import rpc_pb2 as ln
except ImportError:
    ln = None

PASSWORD, OTHER = b"correct horse", b"battery staple"


def said(call, answer):
    """One client prints errors and returns nothing: that is a failure here."""
    assert answer is not None, f"{call} failed"
    print(f"lnrpc.WalletUnlocker/{call}")
    return answer


def of_today(step, client):
    """lnd-grpc-client has a function for each call."""
    if step == "makes":
        seed = said("GenSeed", client.gen_seed(None, None)).cipher_seed_mnemonic
        wallet = dict(wallet_password=PASSWORD, cipher_seed_mnemonic=seed)
        assert said("InitWallet", client.init_wallet(**wallet)).admin_macaroon
    elif step == "opens":
        assert client.unlock_wallet(wallet_password=OTHER) is None
        said("UnlockWallet", client.unlock_wallet(wallet_password=PASSWORD))
    else:
        changed = client.change_password(PASSWORD, OTHER, False, False)
        assert said("ChangePassword", changed).admin_macaroon


def of_2019(step, client):
    """lndgrpc has one for UnlockWallet, and stubs for the others."""
    stub = client._wallet_stub
    if step == "makes":
        seed = said("GenSeed", stub.GenSeed(ln.GenSeedRequest())).cipher_seed_mnemonic
        wallet = dict(wallet_password=PASSWORD, cipher_seed_mnemonic=seed)
        said("InitWallet", stub.InitWallet(ln.InitWalletRequest(**wallet)))
    elif step == "opens":
        said("UnlockWallet", client.unlock(PASSWORD.decode()))
    else:
        request = ln.ChangePasswordRequest(current_password=PASSWORD, new_password=OTHER)
        said("ChangePassword", stub.ChangePassword(request))


def main():
    step, rpc, cert = sys.argv[1:]
    with open(cert, "rb") as file:
        # They insist on a macaroon; there is none before there is a wallet.
        client = LNDClient(rpc, cert=file.read(), macaroon="00")
    (of_2019 if ln else of_today)(step, client)


main()
