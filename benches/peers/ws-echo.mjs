// An echo on Node's `ws`, with permessage-deflate on the gateway's terms or without. Its modules lie in $TIDEGATE_NODE.
import { createRequire } from 'node:module'

const { WebSocketServer } = createRequire(`${process.env.TIDEGATE_NODE}/`)('ws')
const [host, port] = process.argv[process.argv.indexOf('--listen') + 1].split(':')
// No message refers to an earlier one; those from 256 bytes on are compressed, as fast as can be.
const perMessageDeflate = process.argv.includes('--deflate') && {
  serverNoContextTakeover: true,
  clientNoContextTakeover: true,
  threshold: 256,
  zlibDeflateOptions: { level: 1 },
}
const server = new WebSocketServer({ host, port: Number(port), backlog: 4096, perMessageDeflate })
server.on('connection', (socket) => {
  socket.on('error', () => {})
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
})
server.on('listening', () => console.log(`listening on ${host}:${server.address().port}`))
