// What any client with the browsers' WebSocket interface must see. Runs in Node and in a page alike, so it uses nothing
// that only one of them has. Each check throws where the gateway disappoints.

const SIZES = [0, 1, 125, 126, 65535, 65536, 300000]
const UNICODE = 'grüße, 世界, \u0000 \u07ff \uffff 🦀\u{10ffff}'

/** Runs every check against the gateway at `base` (`ws://HOST:PORT`); resolves to their names. */
export async function runChecks(WebSocket, base) {
  const checks = [
    echoesText,
    echoesBinary,
    echoesBlobs,
    keepsOrder,
    negotiatesNoSubprotocol,
    closesCleanly,
    answersRequests,
    answersNonsense,
    publishesToRooms,
    agreesToCompress,
    echoesWhatCompressesAndWhatDoesNot,
    echoesManyCompressed,
  ]
  const done = []
  for (const check of checks) {
    try {
      await check((path, protocols) => Client.open(new WebSocket(base + path, protocols)))
    } catch (error) {
      throw new Error(`${check.name}: ${error.message}`)
    }
    done.push(check.name)
  }
  return done
}

/** Joins `room` and checks `count` publishes to it, which `tests/wss` makes. */
export async function beMember(WebSocket, base, room, count, joined) {
  const client = await Client.open(new WebSocket(`${base}/ws`))
  same(client.socket.extensions.split(';')[0], 'permessage-deflate', 'the extension')
  isBody(await client.answer({ route: 'join', id: 1, body: { room } }), 1)
  await joined()
  for (let n = 0; n < count; n++) {
    const { data } = await client.nextJson()
    same(data.n, n, 'the order of publishes')
    same(data.text, `tide ${n} `.repeat(data.times), `publish ${n}`)
  }
  await client.close()
}

async function echoesText(open) {
  const client = await open('/echo')
  for (const size of SIZES) {
    const text = 'x'.repeat(size)
    client.socket.send(text)
    same(await client.next(), text, `a text of ${size} bytes`)
  }
  client.socket.send(UNICODE)
  same(await client.next(), UNICODE, 'a text of every UTF-8 length')
  await client.close()
}

async function echoesBinary(open) {
  const client = await open('/echo')
  for (const size of SIZES) {
    const bytes = pattern(size)
    client.socket.send(bytes.buffer)
    const answer = await client.next()
    same(answer instanceof ArrayBuffer, true, `the answer to ${size} bytes being binary`)
    sameBytes(answer, bytes, `${size} bytes`)
  }
  await client.close()
}

async function echoesBlobs(open) {
  const client = await open('/echo')
  const bytes = pattern(70000)
  if (typeof document === 'undefined') {
    client.socket.send(bytes)
  } else {
    client.socket.send(new Blob([bytes]))
    client.socket.binaryType = 'blob'
  }
  const answer = await client.next()
  sameBytes(answer instanceof ArrayBuffer ? answer : await answer.arrayBuffer(), bytes, 'a blob')
  await client.close()
}

async function keepsOrder(open) {
  const client = await open('/echo')
  for (let n = 0; n < 1000; n++) client.socket.send(`message ${n}`)
  for (let n = 0; n < 1000; n++) same(await client.next(), `message ${n}`, 'pipelined')
  await client.close()
}

async function negotiatesNoSubprotocol(open) {
  const client = await open('/echo')
  same(client.socket.protocol, '', 'the subprotocol')
  await client.close()
}

async function closesCleanly(open) {
  const client = await open('/echo')
  client.socket.send('last words')
  same(await client.next(), 'last words', 'the echo')
  await client.close(1000, 'done')
  const other = await open('/ws')
  await other.close(3456, 'a code of our own')
}

async function agreesToCompress(open) {
  const client = await open('/echo')
  same(client.socket.extensions.split(';')[0], 'permessage-deflate', 'the extension')
  await client.close()
}

async function echoesWhatCompressesAndWhatDoesNot(open) {
  const client = await open('/echo')
  for (const size of [0, 1, 255, 256, 4096, 65536, 1 << 20]) {
    const text = 'all is warm; '.repeat(size / 13 + 1).slice(0, size)
    client.socket.send(text)
    same((await client.next()) === text, true, `a text of ${size} bytes coming back`)
    for (const bytes of [new Uint8Array(size), noise(size)]) {
      client.socket.send(bytes.buffer)
      sameBytes(await client.next(), bytes, `${size} bytes`)
    }
  }
  await client.close()
}

async function echoesManyCompressed(open) {
  const client = await open('/echo')
  const text = (n) => `message ${n} `.repeat(n % 97)
  for (let n = 0; n < 2000; n++) client.socket.send(text(n))
  for (let n = 0; n < 2000; n++) same((await client.next()) === text(n), true, `message ${n} coming back`)
  await client.close(3456)
}

async function answersRequests(open) {
  const client = await open('/ws')
  client.ask({ route: 'echo', id: 1, body: { a: [1, 2] } })
  same(await client.nextJson(), { id: 1, body: { a: [1, 2] } }, 'echo')
  const unknown = await client.answer({ route: 'no such route', id: 2 })
  isError(unknown, 2, 404)

  const { body: me } = await client.answer({ route: 'whoami', id: 3 })
  const { body: meAgain } = await client.answer({ route: 'whoami', id: 4 })
  same(typeof me.id === 'string' && me.id.length > 0, true, 'an id')
  same(meAgain.id, me.id, 'the id, asked again')
  const other = await open('/ws')
  const { body: you } = await other.answer({ route: 'whoami', id: 1 })
  same(you.id === me.id, false, "another connection's id being the same")

  const { body: time } = await client.answer({ route: 'time', id: 5 })
  same(Math.abs(time.unix_ms - Date.now()) < 60000, true, `a time of ${JSON.stringify(time)}`)
  await other.close()
  await client.close()
}

async function answersNonsense(open) {
  const client = await open('/ws')
  for (const nonsense of ['not JSON', '', '[]', '{"id":7}', '{"route":7}', '{"route":"echo"']) {
    client.socket.send(nonsense)
    const answer = await client.nextJson()
    same(answer.error.code, 400, `the answer to ${nonsense}`)
    same(typeof answer.error.message, 'string', `the answer to ${nonsense}`)
  }
  client.socket.send(pattern(10))
  same((await client.nextJson()).error.code, 400, 'the answer to bytes')
  same((await client.answer({ route: 'echo', id: 8, body: 'still here' })).body, 'still here', 'echo')
  await client.close()
}

async function publishesToRooms(open) {
  const [ann, ben, cat] = [await open('/ws'), await open('/ws'), await open('/ws')]
  const room = `room ${Math.random()}`
  for (const member of [ann, ben]) isBody(await member.answer({ route: 'join', id: 3, body: { room } }), 3)
  const { body: me } = await ann.answer({ route: 'whoami', id: 4 })
  const event = (data) => ({ event: 'publish', room, from: me.id, data })
  const publish = async (id, data, self) => {
    const [answers, events] = await ann.exchange({ route: 'publish', id, body: { room, data, self } }, self ? 2 : 1)
    same(answers.length, 1, `answers among ${JSON.stringify([answers, events])}: their number`)
    isBody(answers[0], id)
    return events
  }

  same(await publish(5, { to: ['others'] }, false), [], 'what the publisher gets without itself')
  same(await ben.nextJson(), event({ to: ['others'] }), 'what the other member gets')
  same(await publish(6, 'to all', true), [event('to all')], 'what the publisher gets with itself')
  same(await ben.nextJson(), event('to all'), 'what the other member gets')

  isBody(await ben.answer({ route: 'leave', id: 9, body: { room } }), 9)
  await publish(7, 'after leaving', true)
  // Had the publish reached them, it would stand before these answers.
  same((await ben.answer({ route: 'echo', id: 10, body: 1 })).id, 10, 'the next answer after leaving')
  same((await cat.answer({ route: 'echo', id: 11, body: 1 })).id, 11, 'the next answer of a stranger')
  for (const client of [ann, ben, cat]) await client.close()
}

/** A socket whose messages are awaited one after the other. */
class Client {
  static open(socket) {
    socket.binaryType = 'arraybuffer'
    const client = new Client(socket)
    return new Promise((resolve, reject) => {
      socket.addEventListener('open', () => resolve(client))
      socket.addEventListener('error', () => reject(new Error(`no connection to ${socket.url}`)))
    })
  }

  constructor(socket) {
    this.socket = socket
    this.arrived = []
    this.waiting = null
    this.closed = new Promise((resolve) => socket.addEventListener('close', resolve))
    socket.addEventListener('message', ({ data }) => {
      this.arrived.push(data)
      this.waiting?.()
    })
  }

  async next() {
    if (this.arrived.length === 0) {
      const message = new Promise((resolve) => (this.waiting = resolve))
      const closed = this.closed.then(({ code }) => {
        throw new Error(`closed with ${code} while a message was awaited`)
      })
      await within(Promise.race([message, closed]), 'a message')
    }
    return this.arrived.shift()
  }

  async nextJson() {
    return JSON.parse(await this.next())
  }

  ask(request) {
    this.socket.send(JSON.stringify(request))
  }

  async answer(request) {
    this.ask(request)
    return this.nextJson()
  }

  /** Sends `request` and takes `count` messages: answers and events, between which no order is promised. */
  async exchange(request, count) {
    this.ask(request)
    const messages = []
    for (let n = 0; n < count; n++) messages.push(await this.nextJson())
    return [messages.filter((m) => !('event' in m)), messages.filter((m) => 'event' in m)]
  }

  async close(code = 1000, reason = '') {
    same(this.arrived.length, 0, 'messages that nobody expected')
    this.socket.close(code, reason)
    const event = await within(this.closed, 'the close')
    same([event.code, event.wasClean], [code, true], 'the close code, and whether it was clean')
  }
}

function within(promise, what) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come within 20 s`)), 20000)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

/** Bytes that no compressor makes less of. */
function noise(size) {
  let seed = 1
  return Uint8Array.from({ length: size }, () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) | 0
    return seed >>> 24
  })
}

function pattern(size) {
  return Uint8Array.from({ length: size }, (_, n) => (n * 31 + 7) & 255)
}

function sameBytes(answer, bytes, what) {
  const got = new Uint8Array(answer)
  same(got.length, bytes.length, `the length of ${what}`)
  same(got.findIndex((byte, n) => byte !== bytes[n]), -1, `the first wrong byte of ${what}`)
}

function isBody(answer, id) {
  same([answer.id, 'body' in answer, 'error' in answer], [id, true, false], `the answer ${JSON.stringify(answer)}`)
}

function isError(answer, id, code) {
  same([answer.id, answer.error.code], [id, code], `the answer ${JSON.stringify(answer)}`)
  same(typeof answer.error.message, 'string', 'the message')
}

function same(got, wanted, what) {
  const [left, right] = [canonical(got), canonical(wanted)]
  if (left !== right) throw new Error(`${what}: got ${left.slice(0, 200)}, not ${right.slice(0, 200)}`)
}

// Objects are compared by their members, in whatever order they came.
function canonical(value) {
  return JSON.stringify(value, (_, v) =>
    v && typeof v === 'object' && !Array.isArray(v) ? Object.fromEntries(Object.entries(v).sort()) : v,
  ) ?? String(value)
}
