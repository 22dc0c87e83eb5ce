/** The routes of OpenAI's API, in a scope whose errors have OpenAI's shape. */
import multipart from '@fastify/multipart';
import type { Routes } from '../room.ts';
import { batchRoutes } from './batch-routes.ts';
import { fileRoutes } from './file-routes.ts';
import { MULTIPART_LIMITS } from './file-upload.ts';
import { answerInOpenaiShape } from './openai-answer.ts';
import { taskRoutes } from './task-routes.ts';

export const openaiRoutes: Routes = (app, room) => {
  app.register(multipart, { limits: MULTIPART_LIMITS });
  answerInOpenaiShape(app, room);
  taskRoutes(app, room);
  fileRoutes(app, room);
  batchRoutes(app, room);
};
