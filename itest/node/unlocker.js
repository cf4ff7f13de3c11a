// Makes or opens a wallet with npm's lightning, against a daemon without an open one.
//
//     unlocker.js makes|opens|changes RPC CERT
//
// Each step is of a start of its own. A line for each call, by the name that it has in lnd.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const lightning = require('lightning');

const [step, socket, path] = process.argv.slice(2);
const [password, other] = ['correct horse', 'battery staple'];

function made(call) {
  console.log(`lnrpc.WalletUnlocker/${call}`);
}

const steps = {
  async makes(lnd) {
    const {seed} = await lightning.createSeed({lnd});
    made('GenSeed');
    await lightning.createWallet({lnd, password, seed});
    made('InitWallet');
  },
  async opens(lnd) {
    const wrong = lightning.unlockWallet({lnd, password: other});
    await assert.rejects(wrong, error => error[1] === 'InvalidWalletUnlockPassword');
    await lightning.unlockWallet({lnd, password});
    made('UnlockWallet');
  },
  async changes(lnd) {
    await lightning.changePassword({lnd, current_password: password, new_password: other});
    made('ChangePassword');
  },
};

async function main() {
  const cert = fs.readFileSync(path).toString('base64');
  await steps[step](lightning.unauthenticatedLndGrpc({socket, cert}).lnd);
  process.exit(0);
}

main().catch(error => {
  console.error(error);
  process.exit(1);
});
