// Loaded into every node process of the CLI: refuses and notes every address but loopback.
const fs = require('node:fs');
const net = require('node:net');

const record = process.env.LOOPBACK_RECORD;
const isLoopback = (host) => host === undefined || host === '::1' || host === 'localhost' || /^127\./.test(host);
const connect = net.Socket.prototype.connect;

net.Socket.prototype.connect = function (...given) {
  // node itself hands over [[options, callback]].
  const [first, second] = Array.isArray(given[0]) ? given[0] : given;
  const { host, path } = typeof first === 'object' ? first : { host: typeof second === 'string' ? second : undefined };
  const local = typeof path === 'string' || (typeof first === 'string' && Number.isNaN(Number(first)));
  fs.appendFileSync(record, `${local || isLoopback(host) ? 'loopback' : `elsewhere ${host}`}\n`);
  if (local || isLoopback(host)) return connect.apply(this, given);
  throw new Error(`${host} is not on this computer`);
};
