// People on Bluesky, by Bluesky's own client: a line of JSON says what one of them does, a line answers.
'use strict';
const path = require('node:path');
const readline = require('node:readline');
const { createRequire } = require('node:module');

const installed = createRequire(path.join(process.env.MODULES, 'of-the-tests.js'));
const nested = createRequire(installed.resolve('@atproto/dev-env'));
const { AtpAgent, RichText } = nested('@atproto/api');

const people = new Map();
const wait = (ms) => new Promise((done) => setTimeout(done, ms));

// Until it holds; the AppView hears of everything a moment later.
async function until(what, holds) {
  for (const from = Date.now(); Date.now() - from < 60_000; await wait(50)) {
    const found = await holds().catch(() => undefined);
    if (found) return found;
  }
  throw new Error(`not in time: ${what}`);
}

const reference = ({ uri, cid }) => ({ uri, cid });

const deeds = {
  async join({ who }) {
    const agent = new AtpAgent({ service: process.env.PDS });
    await agent.createAccount({ handle: `${who}.test`, email: `${who}@example.org`, password: `password-of-${who}` });
    await agent.upsertProfile(() => ({ displayName: who.toUpperCase() }));
    people.set(who, agent);
    // Mentions are resolved by the AppView.
    await until('a profile', async () => (await agent.getProfile({ actor: agent.did })).data.handle === `${who}.test`);
    return { did: agent.did };
  },
  async password({ who }) {
    const made = await people.get(who).com.atproto.server.createAppPassword({ name: 'gateway' });
    return { password: made.data.password };
  },
  // A post; `to` is what it answers, `about` what it quotes.
  async post({ who, text, to, about }) {
    const agent = people.get(who);
    const rich = new RichText({ text });
    await rich.detectFacets(agent);
    const record = { text: rich.text, facets: rich.facets, langs: ['de'], createdAt: new Date().toISOString() };
    if (to) record.reply = { root: reference(to.root ?? to), parent: reference(to) };
    if (about) record.embed = { $type: 'app.bsky.embed.record', record: reference(about) };
    const made = await agent.post(record);
    return { ...reference(made), root: to ? reference(to.root ?? to) : undefined, facets: rich.facets ?? [] };
  },
  // Until the AppView knows a post: an answer to one that it does not know yet is told to nobody.
  async seen({ who, post }) {
    await until('a post', async () => (await people.get(who).getPostThread({ uri: post.uri, depth: 0 })).data.thread.post);
    return {};
  },
  async like({ who, post }) {
    await people.get(who).like(post.uri, post.cid);
    return {};
  },
};

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const asked = JSON.parse(line);
    const answer = await deeds[asked.do](asked).catch((error) => ({ error: String(error?.stack ?? error) }));
    console.log(JSON.stringify(answer));
  }
})();
