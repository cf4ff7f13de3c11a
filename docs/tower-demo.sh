#!/bin/sh
# A watchtower catches a breach while the node that it works for is off. It needs nothing but cargo:
# where there is no bitcoind it runs on the chain in a box. What happens is in
# itest/src/bin/tower_demo.rs; docs/watchtower.md explains it.
set -e
cd "$(dirname "$0")/.."
exec ${TOWER_DEMO:-cargo tower-demo}
