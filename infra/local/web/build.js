// Builds the demo app into `dist/`, or with `--tests` the unit tests into `generated/tests/`.

import { copyFileSync, mkdirSync, rmSync } from 'node:fs'
import { build } from 'esbuild'

process.chdir(import.meta.dirname ?? new URL('.', import.meta.url).pathname)

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
  const output = process.argv[2] ?? 'dist'
  rmSync(output, { recursive: true, force: true })
  mkdirSync(output, { recursive: true })
  await build({
    entryPoints: { app: 'src/demo/main.ts' },
    outdir: output,
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
    metafile: true,
  })
  for (const file of ['index.html', 'style.css']) copyFileSync(`src/demo/${file}`, `${output}/${file}`)
}
