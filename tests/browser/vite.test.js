// The web page of docs/api.md, exactly as it stands there, in an empty Vite project.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createServer, preview } from 'vite'
import { App, browser, latestChallenge, reset, stack } from './browser.js'

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url))
const docs = readFileSync(path('../../docs/api.md'), 'utf8')

/** The code blocks that begin with the name of a file, by that name. */
const blocks = Object.fromEntries(
  [...docs.matchAll(/^```\w+\n(?:\/\/|#) ([\w./-]+)\n(.*?)^```$/gms)].map(([, name, code]) => [name, code]),
)

const scratch = mkdtempSync(join(tmpdir(), 'vite-'))
const project = join(scratch, 'my-app')

function run(directory, command, ...parameters) {
  try {
    execFileSync(command, parameters, { cwd: directory, encoding: 'utf8' })
  } catch (error) {
    throw new Error(`${command} ${parameters.join(' ')}:\n${error.stdout}${error.stderr}`)
  }
}

before(async () => {
  // As `npm create vite` and `npm install` do, with the versions of this suite.
  assert.match(docs, /^npm create vite@9 my-app -- --template vanilla-ts$/m)
  run(scratch, path('node_modules/.bin/create-vite'), 'my-app', '--template', 'vanilla-ts', '--no-interactive')
  symlinkSync(path('node_modules'), join(project, 'node_modules'))
  for (const file of ['pin-change.ts', 'jsonwebtoken.ts']) {
    copyFileSync(path(`../../infra/local/web/src/${file}`), join(project, 'src', file))
  }

  const environment = blocks['.env.local']
    .replace(/(?<=^VITE_API_URL=).*$/m, stack.api)
    .replace(/(?<=^VITE_ISSUER=).*$/m, stack.issuer)
    .replace(/(?<=^VITE_PIN_PAGE=).*$/m, stack.pinPage)
  for (const [name, code] of Object.entries({ ...blocks, '.env.local': environment })) {
    writeFileSync(join(project, name), code)
  }
})

after(async () => {
  await browser.close()
  rmSync(scratch, { recursive: true })
})

const address = { host: '127.0.0.1', port: 0 }

/** As `npm run dev`. */
async function develop() {
  const server = await createServer({ root: project, cacheDir: join(scratch, 'cache'), server: address })
  return server.listen()
}

/** As `npm run build` and `npm run preview`. */
async function build() {
  run(project, 'npm', 'run', 'build')
  return preview({ root: project, preview: address })
}

test('the documentation has the files of the page', () => {
  const files = ['.env.local', 'src/change-pin.ts', 'src/main.ts', 'src/sign-in.ts', 'vite.config.js']
  assert.deepEqual(Object.keys(blocks).sort(), files)
})

for (const serve of [develop, build]) {
  test(`the page of the documentation changes a PIN: ${serve.name}`, { timeout: 90_000 }, async (context) => {
    await reset()
    const server = await serve()
    context.after(() => server.close())
    const app = new App(await browser.newPage())
    await app.page.goto(server.resolvedUrls.local[0])
    await app.press('Change PIN')
    await app.changePin()
    await app.page.getByRole('status').filter({ hasText: 'Your new PIN is valid.' }).waitFor()
    await app.close()
    assert.equal((await latestChallenge()).status, 'COMPLETE')
  })
}
