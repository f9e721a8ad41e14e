// Node's `ws` as the server of tests/client/others.rs: prints its port, serves until killed. Its modules lie in $TIDEGATE_NODE.
import { createRequire } from 'node:module'
import { createServer } from 'node:http'
import { once } from 'node:events'
import assert from 'node:assert/strict'

const { WebSocketServer } = createRequire(`${process.env.TIDEGATE_NODE}/`)('ws')
const sockets = new WebSocketServer({
  noServer: true,
  perMessageDeflate: { threshold: 0 },
  handleProtocols: (offered) => (offered.has('two') ? 'two' : false),
})

async function echo(socket, data, isBinary) {
  const text = isBinary ? '' : data.toString()
  if (text === 'ping') {
    socket.ping('are you there')
    const [payload] = await once(socket, 'pong')
    assert.equal(payload.toString(), 'are you there')
    socket.send('pong')
  } else if (text === 'extensions') {
    socket.send(Object.keys(socket._extensions).join())
  } else if (text === 'fragments') {
    for (let n = 0; n < 10; n++) socket.send('a', { fin: n === 9 })
  } else if (text === 'close') {
    socket.close(4002, 'as asked')
  } else {
    socket.send(data, { binary: isBinary })
  }
}

function answer(socket, data) {
  const { id, body } = JSON.parse(data)
  socket.send(JSON.stringify({ id, body }))
}

const server = createServer()
server.on('upgrade', (request, stream, head) => {
  const serve = { '/echo': echo, '/json': answer }[request.url]
  if (!serve) {
    stream.end('HTTP/1.1 404 Not Found\r\nContent-Length: 13\r\nConnection: close\r\n\r\nno such path\n')
    return
  }
  sockets.handleUpgrade(request, stream, head, (socket) => {
    if (serve === echo) assert.equal(socket.protocol, 'two')
    socket.on('message', (data, isBinary) => serve(socket, data, isBinary))
  })
})
server.listen(0, '127.0.0.1', () => console.log(server.address().port))
