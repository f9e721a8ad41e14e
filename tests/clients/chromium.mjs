// Headless Chromium against the gateway: `node chromium.mjs ws://HOST:PORT [ROOM COUNT]`, with its modules in $TIDEGATE_NODE
// and the browser in $TIDEGATE_CHROMIUM. The checks run in the page that the gateway itself serves. Over wss, the
// gateway's certificate, $TIDEGATE_CERT, is taken for good by its key, and no other. With a room, it is a member of it.
import { X509Certificate, createHash } from 'node:crypto'
import { createRequire } from 'node:module'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'

const { chromium } = createRequire(`${process.env.TIDEGATE_NODE}/`)('playwright-core')

// Nothing but what the test asks of it: no look-ups, updates or reports of the browser's own.
const ARGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

/** The argument by which the browser takes the certificate in a file for good. */
async function trust(file) {
  const { publicKey } = new X509Certificate(await readFile(file))
  const key = publicKey.export({ type: 'spki', format: 'der' })
  return `--ignore-certificate-errors-spki-list=${createHash('sha256').update(key).digest('base64')}`
}

async function runInPage(context, base, room, count) {
  const page = context.pages()[0] ?? (await context.newPage())
  const site = base.replace(/^ws/, 'http')
  const response = await page.goto(`${site}/`)
  if (response.status() !== 200) throw new Error(`GET /: status ${response.status()}`)
  const title = await page.title()
  if (!/tidegate/i.test(title)) throw new Error(`GET /: the page's title is "${title}"`)
  const source = await readFile(new URL('checks.mjs', import.meta.url), 'utf8')
  const module = `data:text/javascript;base64,${Buffer.from(source).toString('base64')}`
  if (room) {
    await page.exposeFunction('joined', () => console.log('joined'))
    await page.evaluate(
      async ([url, base, room, count]) => (await import(url)).beMember(WebSocket, base, room, count, window.joined),
      [module, base, room, Number(count)],
    )
    return ['membership']
  }
  return page.evaluate(
    async ([url, base]) => (await import(url)).runChecks(WebSocket, base),
    [module, base],
  )
}

setTimeout(() => {
  console.error('chromium: not done within 120 s')
  process.exit(1)
}, 120000).unref()

const profile = await mkdtemp(path.join(tmpdir(), 'tidegate-chromium-'))
try {
  const cert = process.env.TIDEGATE_CERT
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.TIDEGATE_CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    args: cert ? [...ARGS, await trust(cert)] : ARGS,
    bypassCSP: true,
    timeout: 60000,
  })
  try {
    const done = await runInPage(context, ...process.argv.slice(2))
    console.log(`chromium: ${done.length} checks passed: ${done.join(', ')}`)
  } finally {
    await context.close()
  }
} catch (error) {
  // The page's stack follows: all of it lines of the base64 that the module was imported as.
  console.error(`chromium: ${error.message.split('\n    at ')[0]}`)
  process.exitCode = 1
} finally {
  await rm(profile, { recursive: true, force: true })
}
