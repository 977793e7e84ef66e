// memcached-elasticache: waits for discovery, stores and reads 40 keys, tells the nodes and what was read; again after
// each line on standard input, which stands for a change of the cluster.
'use strict';

const Client = require('memcached-elasticache');
const readline = require('readline');

const interval = 200;
const client = new Client(process.argv[2], { autoDiscoverInterval: interval, timeout: 2000 });

function store(number) {
  return new Promise((resolve, reject) => {
    client.set(`js${number}`, String(number), 60, (error) => (error ? reject(error) : resolve()));
  });
}

function read(number) {
  return new Promise((resolve, reject) => {
    client.get(`js${number}`, (error, value) => (error ? reject(error) : resolve(value === String(number))));
  });
}

async function tell(nodes) {
  const numbers = [...Array(40).keys()];
  await Promise.all(numbers.map(store));
  const found = await Promise.all(numbers.map(read));
  console.log(JSON.stringify({ nodes, found: found.filter(Boolean).length }));
}

client.on('autoDiscover', (nodes) => {
  tell(nodes).catch((error) => console.log(JSON.stringify({ error: String(error) })));
});
client.on('autoDiscoverFailure', (error) => console.log(JSON.stringify({ error: String(error) })));
readline.createInterface({ input: process.stdin }).on('close', () => process.exit(0));
