// Builds the demo app into `dist/`, or with `--tests` the unit tests into `generated/tests/`.

import { copyFileSync, mkdirSync, rmSync } from 'node:fs'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

process.chdir(fileURLToPath(new URL('.', import.meta.url)))

/** The SDK uses one function of this package, which otherwise needs modules of Node.js. */
const alias = { jsonwebtoken: './src/jsonwebtoken.ts' }

if (process.argv.includes('--tests')) {
  await build({
    entryPoints: ['src/pin-change.test.ts', 'src/jsonwebtoken.test.ts'],
    outdir: 'generated/tests',
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    format: 'esm',
    packages: 'external',
  })
} else {
  rmSync('dist', { recursive: true, force: true })
  mkdirSync('dist')
  await build({
    entryPoints: { app: 'src/demo/main.ts' },
    outdir: 'dist',
    alias,
    bundle: true,
    // Circle's SDK becomes a file of its own, which the page loads when the user needs it.
    splitting: true,
    chunkNames: '[name]-[hash]',
    format: 'esm',
    target: 'es2022',
    minify: true,
    sourcemap: true,
    legalComments: 'linked',
  })
  for (const file of ['base.css', 'src/demo/index.html', 'src/demo/style.css']) {
    copyFileSync(file, `dist/${basename(file)}`)
  }
}
