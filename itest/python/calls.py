"""Makes every call that fulmend serves with lnd-grpc-client, LND's own stubs.

    calls.py BITCOIND_RPC_URL ALICE_RPC ALICE_CERT ALICE_MACAROON BOB_RPC BOB_CERT BOB_MACAROON BOB_P2P

Alice opens a channel to Bob, they pay each other, she closes it and stops. A line for each call.
"""

import base64
import json
import sys
import time
import urllib.parse
import urllib.request

from lndgrpc import LNDClient
from lndgrpc.compiled import lightning_pb2 as ln

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
    """The client prints errors and returns nothing: that is a failure here."""
    assert answer is not None, f"{call} failed"
    print(call)
    return answer


def until(what, probe):
    """Asks until it is so: these states are told by no event."""
    deadline = time.monotonic() + PATIENCE
    while not (found := probe()):
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE} s"
        time.sleep(0.1)
    return found


def funded(alice):
    info = said("GetInfo", alice.get_info())
    assert len(info.identity_pubkey) == 66 and info.chains[0].network == "regtest"
    address = said("NewAddress", alice.new_address()).address
    assert address.startswith("bcrt1q")
    bitcoind("sendtoaddress", address, 0.03)
    mine(1)
    until("the coins", lambda: alice.wallet_balance().confirmed_balance == 3_000_000)
    said("WalletBalance", alice.wallet_balance())


def opened(alice, bob_id, bob_p2p):
    said("ConnectPeer", alice.connect_peer(bob_id, bob_p2p))
    peers = said("ListPeers", alice.list_peers()).peers
    assert [peer.pub_key for peer in peers] == [bob_id]
    request = ln.OpenChannelRequest(
        node_pubkey=bytes.fromhex(bob_id), local_funding_amount=1_000_000, push_sat=300_000
    )
    point = said("OpenChannelSync", alice._ln_stub.OpenChannelSync(request))
    txid = point.funding_txid_bytes[::-1].hex() or point.funding_txid_str
    pending = said("PendingChannels", alice.pending_channels()).pending_open_channels
    assert pending[0].channel.channel_point == f"{txid}:{point.output_index}"
    mine(6)
    until("the channel", lambda: [c for c in alice.list_channels().channels if c.active])
    channel = said("ListChannels", alice.list_channels()).channels[0]
    assert (channel.capacity, channel.remote_pubkey) == (1_000_000, bob_id)
    return channel.channel_point


def paid(alice, bob):
    until("Bob's side", lambda: [c for c in bob.list_channels().channels if c.active])
    invoice = said("AddInvoice", bob.add_invoice(1_000, memo="tea"))
    decoded = said("DecodePayReq", alice.decode_pay_req(invoice.payment_request))
    assert (decoded.num_satoshis, decoded.description) == (1_000, "tea")
    assert decoded.payment_hash == invoice.r_hash.hex()
    updates = alice.send_payment_v2(payment_request=invoice.payment_request, timeout_seconds=60)
    last = said("SendPaymentV2", updates)[-1]
    assert last.status == ln.Payment.SUCCEEDED
    found = said("LookupInvoice", bob.lookup_invoice(invoice.r_hash.hex()))
    assert found.state == ln.Invoice.SETTLED and found.r_preimage.hex() == last.payment_preimage

    back = said("AddInvoice", alice.add_invoice(500))
    answer = said("SendPaymentSync", bob.send_payment(back.payment_request, fee_limit_msat=1_000))
    assert answer.payment_error == "" and answer.payment_hash == back.r_hash
    assert len(said("ListInvoices", alice.list_invoices()).invoices) == 1
    payments = said("ListPayments", alice.list_payments()).payments
    assert [payment.value_sat for payment in payments] == [1_000]


def closed(alice, channel_point):
    updates = said("CloseChannel", alice.close_channel(channel_point))
    kinds = []
    for update in updates:
        kinds.append(update.WhichOneof("update"))
        if kinds[-1] == "close_pending":
            mine(6)
        else:
            break
    assert kinds == ["close_pending", "chan_close"], kinds
    assert not alice.list_channels().channels


def main():
    alice, bob = client(*sys.argv[2:5]), client(*sys.argv[5:8])
    bob_id = bob.get_info().identity_pubkey
    funded(alice)
    channel_point = opened(alice, bob_id, sys.argv[8])
    paid(alice, bob)
    closed(alice, channel_point)
    said("StopDaemon", alice.stop_daemon())


main()
