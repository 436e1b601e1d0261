// A Bluesky of its own on loopback: directory, PDS, AppView. Where the PDS is goes to standard output as one line of JSON, before it
// what it is asked, one request a line.
//
// Access tokens end after ACCESS_LIFE instead of two hours, so that a test sees how sessions are continued.
'use strict';
const http = require('node:http');
const net = require('node:net');
const path = require('node:path');
const { createRequire } = require('node:module');

// Nothing listens on anything but loopback.
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (...args) {
  const [first] = args;
  if (typeof first === 'number' || (typeof first === 'string' && /^\d+$/.test(first))) {
    if (typeof args[1] !== 'string') args.splice(1, 0, '127.0.0.1');
  } else if (first && typeof first === 'object' && first.port !== undefined && (!first.host || ['0.0.0.0', '::'].includes(first.host))) {
    args[0] = { ...first, host: '127.0.0.1' };
  } else if (args.length === 0 || typeof first === 'function') {
    args.unshift(0, '127.0.0.1');
  }
  return listen.apply(this, args);
};

const emit = http.Server.prototype.emit;
http.Server.prototype.emit = function (what, request, ...rest) {
  if (what === 'request') console.log(`asked ${request.method} ${request.url.split('?')[0]} by ${request.headers['user-agent']}`);
  return emit.call(this, what, request, ...rest);
};

const installed = createRequire(path.join(process.env.MODULES, 'of-the-tests.js'));
const { TestNetwork } = installed('@atproto/dev-env');
const pds = path.dirname(createRequire(installed.resolve('@atproto/dev-env')).resolve('@atproto/pds'));
const tokens = require(path.join(pds, 'account-manager/helpers/auth.js'));
const make = tokens.createAccessToken;
tokens.createAccessToken = (options) => make({ ...options, expiresIn: process.env.ACCESS_LIFE });

TestNetwork.create({ dbPostgresSchema: 'test', pds: { hostname: 'localhost', inviteRequired: false } }).then(
  (network) => console.log(JSON.stringify({ pds: network.pds.url })),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
