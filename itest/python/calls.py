"""Makes every call of tier 1 that a Python client of lnd has, against two daemons.

    calls.py BITCOIND_RPC_URL ALICE_RPC ALICE_CERT ALICE_MACAROON BOB_RPC BOB_CERT BOB_MACAROON BOB_P2P

Two packages bring a module lndgrpc: lnd-grpc-client with stubs of today, and lndgrpc with stubs of
2019, which know no other services than the main one and the unlocker. Prints a line for each call.
"""

import base64
import hashlib
import json
import sys
import time
import urllib.parse
import urllib.request

from lndgrpc import LNDClient

try:
    from lndgrpc.compiled import lightning_pb2 as ln
    from lndgrpc.compiled import router_pb2 as router
    from lndgrpc.compiled import stateservice_pb2 as state
except ImportError:
    from lndgrpc import rpc_pb2 as ln
    router = None

PATIENCE = 60


def bitcoind(method, *params):
    """One call of bitcoind's RPC."""
    url = urllib.parse.urlsplit(sys.argv[1])
    login = base64.b64encode(f"{url.username}:{url.password}".encode()).decode()
    request = urllib.request.Request(
        f"http://{url.hostname}:{url.port}",
        json.dumps({"method": method, "params": params}).encode(),
        {"Authorization": f"Basic {login}"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)["result"]


def mine(blocks):
    bitcoind("generatetoaddress", blocks, bitcoind("getnewaddress"))


def client(rpc, cert, macaroon):
    return LNDClient(rpc, cert_filepath=cert, macaroon_filepath=macaroon)


def said(call, answer):
    """The clients print errors and return nothing: that is a failure here."""
    assert answer is not None, f"{call} failed"
    print(call if "/" in call else f"lnrpc.Lightning/{call}")
    return answer


def until(what, probe):
    """Asks until it is so: these states are told by no event."""
    deadline = time.monotonic() + PATIENCE
    while not (found := probe()):
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE} s"
        time.sleep(0.1)
    return found


def funded(alice, bob):
    info = said("GetInfo", alice.get_info())
    assert len(info.identity_pubkey) == 66 and info.synced_to_chain
    address = said("NewAddress", alice.new_address()).address
    assert address.startswith("bcrt1q")
    txid = bitcoind("sendtoaddress", address, 0.05)
    mine(1)
    until("the coins", lambda: alice.wallet_balance().confirmed_balance == 5_000_000)
    said("WalletBalance", alice.wallet_balance())
    seen = said("GetTransactions", alice.list_transactions()).transactions
    assert [(tx.tx_hash, tx.amount) for tx in seen] == [(txid, 5_000_000)]
    send = getattr(alice, "send_coins", None) or alice.send_on_chain
    sent = said("SendCoins", send(bob.new_address().address, 200_000)).txid
    assert sent in bitcoind("getrawmempool")
    mine(1)
    until("Bob's coins", lambda: bob.wallet_balance().confirmed_balance == 200_000)
    if hasattr(ln, "ListUnspentRequest"):
        request = ln.ListUnspentRequest(min_confs=1, max_confs=100)
        utxos = said("ListUnspent", bob._ln_stub.ListUnspent(request)).utxos
        assert [(utxo.amount_sat, utxo.outpoint.txid_str) for utxo in utxos] == [(200_000, sent)]


def connected(alice, bob_id, bob_p2p):
    peers = lambda: [peer.pub_key for peer in alice.list_peers().peers]
    said("ConnectPeer", alice.connect_peer(bob_id, bob_p2p))
    until("the peer", lambda: peers() == [bob_id])
    said("DisconnectPeer", alice.disconnect_peer(bob_id))
    until("no peer", lambda: peers() == [])
    alice.connect_peer(bob_id, bob_p2p)
    until("the peer again", lambda: peers() == [bob_id])
    said("ListPeers", alice.list_peers())


def opened(alice, bob_id):
    wanted = dict(node_pubkey=bytes.fromhex(bob_id), push_sat=300_000)
    request = ln.OpenChannelRequest(local_funding_amount=1_000_000, **wanted)
    point = said("OpenChannelSync", alice._ln_stub.OpenChannelSync(request))
    txid = point.funding_txid_bytes[::-1].hex() or point.funding_txid_str
    pending = said("PendingChannels", alice.pending_channels()).pending_open_channels
    assert pending[0].channel.channel_point == f"{txid}:{point.output_index}"
    mine(6)
    until("the channel", lambda: [c for c in alice.list_channels().channels if c.active])
    request = ln.OpenChannelRequest(local_funding_amount=500_000, **wanted)
    kinds = []
    for update in alice._ln_stub.OpenChannel(request):
        kinds.append(update.WhichOneof("update"))
        if kinds[-1] == "chan_pending":
            mine(6)
    said("OpenChannel", kinds)
    assert kinds == ["chan_pending", "chan_open"], kinds
    until("two channels", lambda: len(alice.list_channels().channels) == 2)
    channels = said("ListChannels", alice.list_channels()).channels
    assert sorted(channel.capacity for channel in channels) == [500_000, 1_000_000]
    assert {channel.remote_pubkey for channel in channels} == {bob_id}
    balance = said("ChannelBalance", alice.channel_balance()).balance
    assert 850_000 < balance < 900_000, balance
    return [channel.channel_point for channel in channels if channel.capacity == 1_000_000][0]


def paid(alice, bob):
    until("Bob's side", lambda: len([c for c in bob.list_channels().channels if c.active]) == 2)
    first = said("AddInvoice", bob.add_invoice(1_000, memo="tea"))
    # Told from its number on, so that nothing depends on who is faster.
    news = bob._ln_stub.SubscribeInvoices(ln.InvoiceSubscription(add_index=first.add_index))
    decode = getattr(alice, "decode_pay_req", None) or alice.decode_payment_request
    decoded = said("DecodePayReq", decode(first.payment_request))
    assert (decoded.num_satoshis, decoded.description) == (1_000, "tea")
    assert decoded.payment_hash == first.r_hash.hex()
    limit = [1_000] if router else []
    answer = said("SendPaymentSync", alice.send_payment(first.payment_request, *limit))
    assert answer.payment_error == ""
    assert hashlib.sha256(answer.payment_preimage).digest() == first.r_hash
    told = next(news)
    assert told.settled and told.memo == "tea", told
    second = bob.add_invoice(2_000, memo="cake")
    told = said("SubscribeInvoices", next(news))
    assert not told.settled and told.add_index == second.add_index, told
    news.cancel()
    found = said("LookupInvoice", bob.lookup_invoice(first.r_hash.hex()))
    assert found.settled and found.r_preimage == answer.payment_preimage
    assert len(said("ListInvoices", bob.list_invoices()).invoices) == 2
    amounts = [1_000]
    if router:
        paid_by_router(alice, second)
        amounts.append(2_000)
    payments = said("ListPayments", alice.list_payments()).payments
    assert [payment.value for payment in payments] == amounts


def paid_by_router(alice, invoice):
    request = invoice.payment_request
    updates = alice.send_payment_v2(payment_request=request, timeout_seconds=60)
    last = said("routerrpc.Router/SendPaymentV2", updates)[-1]
    assert last.status == ln.Payment.SUCCEEDED
    request = router.TrackPaymentRequest(payment_hash=invoice.r_hash)
    tracked = list(alice._router_stub.TrackPaymentV2(request))
    assert said("routerrpc.Router/TrackPaymentV2", tracked)[-1] == last


def closed(alice, channel_point):
    updates = said("CloseChannel", alice.close_channel(channel_point))
    kinds = []
    for update in updates:
        kinds.append(update.WhichOneof("update"))
        if kinds == ["close_pending"]:
            until("the close", lambda: bitcoind("getrawmempool"))
            mine(6)
        if kinds[-1] == "chan_close":
            break
    # With the peer's version of the closing transaction there are two that are pending.
    assert kinds[-1] == "chan_close" and set(kinds[:-1]) == {"close_pending"}, kinds
    assert len(alice.list_channels().channels) == 1
    answer = alice._ln_stub.ClosedChannels(ln.ClosedChannelsRequest())
    channels = said("ClosedChannels", answer).channels
    assert [channel.channel_point for channel in channels] == [channel_point]


def served(alice):
    """The services around the main one."""
    said("ListPermissions", alice.list_permissions())
    said("verrpc.Versioner/GetVersion", alice.get_version())
    answer = said("lnrpc.State/GetState", alice.get_state())
    assert answer.state == state.SERVER_ACTIVE
    states = alice._state_stub.SubscribeState(state.SubscribeStateRequest())
    assert said("lnrpc.State/SubscribeState", next(states)).state == state.SERVER_ACTIVE


def main():
    alice, bob = client(*sys.argv[2:5]), client(*sys.argv[5:8])
    bob_id = bob.get_info().identity_pubkey
    funded(alice, bob)
    connected(alice, bob_id, sys.argv[8])
    channel_point = opened(alice, bob_id)
    paid(alice, bob)
    closed(alice, channel_point)
    if router:
        served(alice)
    said("StopDaemon", alice.stop_daemon())


main()
