// Makes every call of tier 1 with npm's lightning, against two daemons.
//
//     calls.js BITCOIND_RPC_URL ALICE_RPC ALICE_CERT ALICE_MACAROON BOB_RPC BOB_CERT BOB_MACAROON BOB_P2P
//
// A line for each call, by the name that it has in lnd. Where the package has a function for it,
// that is used, with all that it asks of an answer; else the call itself.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const lightning = require('lightning');

const [url, ...rest] = process.argv.slice(2);
const bobAddress = rest.pop();
const PATIENCE = 60_000;

async function bitcoind(method, ...params) {
  const {username, password, host} = new URL(url);
  const login = Buffer.from(`${username}:${password}`).toString('base64');
  const answer = await fetch(`http://${host}`, {
    method: 'POST',
    headers: {Authorization: `Basic ${login}`},
    body: JSON.stringify({method, params}),
  });
  return (await answer.json()).result;
}

async function mine(blocks) {
  return bitcoind('generatetoaddress', blocks, await bitcoind('getnewaddress'));
}

function client(socket, cert, macaroon) {
  const base64 = path => fs.readFileSync(path).toString('base64');
  return lightning.authenticatedLndGrpc({socket, cert: base64(cert), macaroon: base64(macaroon)}).lnd;
}

function made(call, answer) {
  console.log(call.includes('/') ? call : `lnrpc.Lightning/${call}`);
  return answer;
}

/** Calls a method as it is, without the package's function. */
function raw(service, method, request = {}) {
  return new Promise((resolve, reject) => {
    service[method](request, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

/** Asks until it is so: these states are told by no event. */
async function until(what, probe) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const found = await probe();
    if (found) return found;
    assert(Date.now() < end, `${what}: not within ${PATIENCE} ms`);
    await new Promise(resolve => setTimeout(resolve, 100));
  }
}

/** The next event of one of these names. */
function next(emitter, ...names) {
  return new Promise((resolve, reject) => {
    emitter.once('error', reject);
    names.forEach(name => emitter.once(name, event => resolve([name, event])));
  });
}

async function funded(alice, bob) {
  const info = made('GetInfo', await lightning.getWalletInfo({lnd: alice}));
  assert.equal(info.public_key.length, 66);
  assert(info.is_synced_to_chain);
  const {address} = made('NewAddress', await lightning.createChainAddress({lnd: alice, format: 'p2wpkh'}));
  const id = await bitcoind('sendtoaddress', address, 0.05);
  await mine(1);
  const balance = async lnd => (await lightning.getChainBalance({lnd})).chain_balance;
  await until('the coins', async () => (await balance(alice)) === 5_000_000);
  made('WalletBalance');
  const seen = made('GetTransactions', await lightning.getChainTransactions({lnd: alice}));
  assert.deepEqual(seen.transactions.map(n => [n.id, n.tokens, n.is_confirmed]), [[id, 5_000_000, true]]);
  const to = await lightning.createChainAddress({lnd: bob, format: 'np2wpkh'});
  const sent = await lightning.sendToChainAddress({lnd: alice, address: to.address, tokens: 200_000});
  made('SendCoins');
  assert((await bitcoind('getrawmempool')).includes(sent.id));
  await mine(1);
  await until("Bob's coins", async () => (await balance(bob)) === 200_000);
  const {utxos} = made('ListUnspent', await lightning.getUtxos({lnd: bob}));
  assert.deepEqual(utxos.map(n => [n.transaction_id, n.tokens]), [[sent.id, 200_000]]);
}

async function connected(alice, bobId) {
  const peers = async () => (await lightning.getPeers({lnd: alice})).peers.map(n => n.public_key);
  const add = () => lightning.addPeer({lnd: alice, public_key: bobId, socket: bobAddress});
  made('ConnectPeer', await add());
  made('ListPeers', assert.deepEqual(await peers(), [bobId]));
  made('DisconnectPeer', await lightning.removePeer({lnd: alice, public_key: bobId}));
  await until('no peer', async () => (await peers()).length === 0);
  await add();
}

async function opened(alice, bobId) {
  const active = async () => (await lightning.getChannels({lnd: alice, is_active: true})).channels;
  const wanted = {lnd: alice, partner_public_key: bobId, give_tokens: 300_000};
  const first = await lightning.openChannel({...wanted, local_tokens: 1_000_000});
  made('OpenChannel');
  const pending = made('PendingChannels', await lightning.getPendingChannels({lnd: alice}));
  assert.equal(pending.pending_channels[0].transaction_id, first.transaction_id);
  await mine(6);
  await until('the channel', async () => (await active()).length === 1);
  await raw(alice.default, 'openChannelSync', {
    node_pubkey: Buffer.from(bobId, 'hex'),
    local_funding_amount: 500_000,
    push_sat: 300_000,
  });
  made('OpenChannelSync');
  await mine(6);
  await until('two channels', async () => (await active()).length === 2);
  const channels = made('ListChannels', await active());
  assert.deepEqual(channels.map(n => n.capacity).sort(), [1_000_000, 500_000]);
  const balance = made('ChannelBalance', await lightning.getChannelBalance({lnd: alice}));
  assert(balance.channel_balance > 850_000 && balance.channel_balance < 900_000);
  return first;
}

async function paid(alice, bob) {
  await until("Bob's side", async () => {
    return (await lightning.getChannels({lnd: bob, is_active: true})).channels.length === 2;
  });
  const first = made('AddInvoice', await lightning.createInvoice({lnd: bob, tokens: 1_000, description: 'tea'}));
  const news = lightning.subscribeToInvoices({lnd: bob, added_after: first.index});
  const request = {lnd: alice, request: first.request};
  const decoded = made('DecodePayReq', await lightning.decodePaymentRequest(request));
  assert.deepEqual([decoded.tokens, decoded.description, decoded.id], [1_000, 'tea', first.id]);
  const [[, told], payment] = await Promise.all([next(news, 'invoice_updated'), lightning.pay(request)]);
  made('routerrpc.Router/SendPaymentV2');
  assert.deepEqual([told.id, told.is_confirmed, told.secret], [first.id, true, payment.secret]);
  made('SubscribeInvoices');
  news.removeAllListeners();
  const tracked = await lightning.getPayment({lnd: alice, id: first.id});
  made('routerrpc.Router/TrackPaymentV2');
  assert.equal(tracked.payment.secret, payment.secret);
  const found = made('LookupInvoice', await lightning.getInvoice({lnd: bob, id: first.id}));
  assert(found.is_confirmed && found.received === 1_000 && found.payments.length === 1);

  const second = await lightning.createInvoice({lnd: bob, tokens: 2_000});
  const answer = await raw(alice.default, 'sendPaymentSync', {payment_request: second.request});
  made('SendPaymentSync', assert.equal(answer.payment_error, ''));
  const {invoices} = made('ListInvoices', await lightning.getInvoices({lnd: bob}));
  assert.deepEqual(invoices.map(n => n.tokens), [2_000, 1_000]);
  const {payments} = made('ListPayments', await lightning.getPayments({lnd: alice}));
  assert.deepEqual(payments.map(n => n.tokens), [2_000, 1_000]);
  const unknown = lightning.getPayment({lnd: alice, id: Buffer.alloc(32).toString('hex')});
  await assert.rejects(unknown, error => error[0] === 404 && error[1] === 'SentPaymentNotFound');
}

async function closed(alice, channel) {
  const {transaction_id, transaction_vout} = channel;
  await lightning.closeChannel({lnd: alice, transaction_id, transaction_vout});
  made('CloseChannel');
  await until('the close', async () => (await bitcoind('getrawmempool')).length > 0);
  const [block] = await mine(6);
  const channels = async () => (await lightning.getClosedChannels({lnd: alice})).channels;
  const [only] = await until('the close', async () => {
    const all = await channels();
    return all.length === 1 && all;
  });
  made('ClosedChannels');
  assert.equal(only.transaction_id, transaction_id);
  // It may be the peer's version of the closing transaction.
  assert((await bitcoind('getblock', block)).tx.includes(only.close_transaction_id));
}

/** Macaroons as the package bakes, lists and revokes them. */
async function macaroons(alice) {
  const baked = await lightning.grantAccess({lnd: alice, id: '3', permissions: ['info:read']});
  made('BakeMacaroon', assert(baked.macaroon));
  const {ids} = made('ListMacaroonIDs', await lightning.getAccessIds({lnd: alice}));
  assert.deepEqual(ids, ['0', '3']);
  const {macaroon} = baked;
  const has = async permission => lightning.verifyAccess({lnd: alice, macaroon, permissions: [permission]});
  assert((await has('info:read')).is_valid && !(await has('info:write')).is_valid);
  made('CheckMacaroonPermissions');
  made('ListPermissions', assert((await lightning.getMethods({lnd: alice})).methods.length > 20));
  made('DeleteMacaroonID', await lightning.revokeAccess({lnd: alice, id: '3'}));
}

/** The services around the main one. */
async function served(alice) {
  const {version} = await lightning.getWalletVersion({lnd: alice});
  made('verrpc.Versioner/GetVersion', version);
  const [socket, cert] = rest;
  const {lnd} = lightning.unauthenticatedLndGrpc({socket, cert: fs.readFileSync(cert).toString('base64')});
  const status = await lightning.getWalletStatus({lnd});
  made('lnrpc.State/GetState', assert(status.is_ready));
  const states = lightning.subscribeToWalletStatus({lnd});
  made('lnrpc.State/SubscribeState', await next(states, 'ready'));
  states.removeAllListeners();
}

async function main() {
  const [alice, bob] = [client(...rest.slice(0, 3)), client(...rest.slice(3, 6))];
  const bobId = (await lightning.getIdentity({lnd: bob})).public_key;
  await funded(alice, bob);
  await connected(alice, bobId);
  const channel = await opened(alice, bobId);
  await paid(alice, bob);
  await closed(alice, channel);
  await macaroons(alice);
  await served(alice);
  // Its own function waits for an error text that grpc-js does not give any more.
  made('StopDaemon', await raw(alice.default, 'stopDaemon'));
  process.exit(0);
}

main().catch(error => {
  console.error(error);
  process.exit(1);
});
