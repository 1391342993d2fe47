import react from '@vitejs/plugin-react'
import { defineConfig } from 'vite'

const { SERVICE_URL = 'http://localhost:8000', API_URL = 'http://127.0.0.1:8100' } = process.env

// One origin for the app, its API and the service, as a reverse proxy gives them in production: no CORS, and the cookie is first-party.
export default defineConfig({
  plugins: [react()],
  server: { proxy: { '/api/v1': SERVICE_URL, '/board': API_URL } },
})
