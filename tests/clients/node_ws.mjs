// Node's `ws` against the gateway: `node node_ws.mjs ws://HOST:PORT [ROOM COUNT]`, with its modules in $TIDEGATE_NODE.
// With a room, it is a member of it.
import { createRequire } from 'node:module'
import { once } from 'node:events'
import assert from 'node:assert/strict'
import { beMember, runChecks } from './checks.mjs'

const WebSocket = createRequire(`${process.env.TIDEGATE_NODE}/`)('ws')

async function open(base, path, options) {
  const socket = new WebSocket(base + path, options)
  await once(socket, 'open')
  return socket
}

async function close(socket) {
  socket.close(1000)
  const [code] = await once(socket, 'close')
  assert.equal(code, 1000)
}

async function answersPings(base) {
  const socket = await open(base, '/echo')
  for (const payload of ['', 'hello', 'x'.repeat(125)]) {
    socket.ping(payload)
    const [answer] = await once(socket, 'pong')
    assert.equal(answer.toString(), payload)
  }
  await close(socket)
}

async function joinsFragments(base) {
  const socket = await open(base, '/echo', { perMessageDeflate: false })
  // The crab's four bytes come in two fragments, with a ping between them.
  const bytes = Buffer.from('a 🦀 in pieces')
  socket.send(bytes.subarray(0, 4), { binary: false, fin: false })
  socket.ping('between')
  socket.send(bytes.subarray(4, 9), { binary: false, fin: false })
  socket.send(Buffer.alloc(0), { binary: false, fin: false })
  socket.send(bytes.subarray(9), { binary: false, fin: true })
  const pong = once(socket, 'pong')
  const [answer, isBinary] = await once(socket, 'message')
  assert.equal(answer.toString(), 'a 🦀 in pieces')
  assert.equal(isBinary, false)
  assert.equal((await pong)[0].toString(), 'between')
  await close(socket)
}

async function refusesUnknownPaths(base) {
  const socket = new WebSocket(`${base}/no/such/endpoint`)
  const [, response] = await once(socket, 'unexpected-response')
  assert.equal(response.statusCode, 404)
  // The request is its user's from here on: `ws` ends it only when told to, and calls that an error.
  socket.on('error', () => {})
  socket.terminate()
}

async function isClosedForBadText(base) {
  const socket = await open(base, '/echo')
  socket.send(Buffer.from([0xc3, 0x28]), { binary: false })
  const [code] = await once(socket, 'close')
  assert.equal(code, 1007)
}

const [, , base, room, count] = process.argv

// Ends the process, which sockets that a failed check left open would keep alive.
function fail(message) {
  console.error(`node_ws: ${message}`)
  process.exit(1)
}

setTimeout(() => fail('not done within 60 s'), 60000).unref()
try {
  if (room) {
    await beMember(WebSocket, base, room, Number(count), () => console.log('joined'))
    process.exit(0)
  }
  const done = await runChecks(WebSocket, base)
  for (const check of [answersPings, joinsFragments, refusesUnknownPaths, isClosedForBadText]) {
    await check(base).catch((error) => {
      throw new Error(`${check.name}: ${error.message}`)
    })
    done.push(check.name)
  }
  console.log(`node_ws: ${done.length} checks passed: ${done.join(', ')}`)
} catch (error) {
  fail(error.message)
}
