"""Says which version of lnd-grpc-client is here, and that its stubs know our calls."""

from importlib.metadata import version

from lndgrpc.compiled import lightning_pb2_grpc, router_pb2_grpc

CALLS = """GetInfo NewAddress WalletBalance ConnectPeer ListPeers OpenChannelSync PendingChannels
ListChannels AddInvoice LookupInvoice ListInvoices DecodePayReq SendPaymentSync ListPayments
CloseChannel StopDaemon""".split()

for call in CALLS:
    assert hasattr(lightning_pb2_grpc.LightningServicer, call), call
assert hasattr(router_pb2_grpc.RouterServicer, "SendPaymentV2")
print(version("lnd-grpc-client"))
